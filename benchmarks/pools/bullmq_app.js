// The tasks for BullMQ. `node bullmq_app.js worker`, `... fill sleep 10 0.1`, `... trips 1000`.
// Its packages are found by NODE_PATH.

const {Queue, QueueEvents, Worker} = require("bullmq");
const Redis = require("ioredis");

const NAME = "benchmark";
const COUNTED = "counted";
const PORTION = 200;

function connect(url) {
  return new Redis(url, {maxRetriesPerRequest: null});
}

const connection = connect(process.env.BENCHMARK_QUEUE_URL);
const ignored = Boolean(process.env.BENCHMARK_IGNORE_RESULTS);
const options = ignored ? {removeOnComplete: true} : {};

async function work() {
  const count = Number(process.env.BENCHMARK_COUNT);
  let counted = 0;
  async function run(job) {
    if (job.name === "sleep") {
      await new Promise((resolve) => setTimeout(resolve, 1000 * job.data.args[0]));
    } else if (job.name === COUNTED && ++counted === count) {
      await connect(process.env.BENCHMARK_RESULTS_URL).set(COUNTED, 1);
    }
    return null;
  }
  const worker = new Worker(NAME, run, {
    connection,
    concurrency: Number(process.env.BENCHMARK_CONCURRENCY),
  });
  worker.on("error", (error) => console.error(error));
}

async function fill(task, count, args) {
  const queue = new Queue(NAME, {connection});
  for (let sent = 0; sent < count; sent += PORTION) {
    const portion = Math.min(PORTION, count - sent);
    await queue.addBulk(
      Array.from({length: portion}, () => ({name: task, data: {args}, opts: options})),
    );
  }
  await queue.close();
}

async function trips(count) {
  const queue = new Queue(NAME, {connection});
  const events = new QueueEvents(NAME, {connection: connect(process.env.BENCHMARK_QUEUE_URL)});
  await events.waitUntilReady();
  const send = () => queue.add("noop", {args: []}, options);
  async function trip() {
    const begun = performance.now();
    await (await send()).waitUntilFinished(events);
    return (performance.now() - begun) / 1000;
  }
  await trip();
  const alone = [];
  for (let number = 0; number < Math.min(count, 20); number++) {
    alone.push(await trip());
  }
  const atOnce = await Promise.all(Array.from({length: count}, trip));
  const begun = performance.now();
  const sent = [];
  for (let first = 0; first < count; first += PORTION) {
    const portion = Math.min(PORTION, count - first);
    sent.push(...(await Promise.all(Array.from({length: portion}, send))));
  }
  const sending = (performance.now() - begun) / 1000;
  await Promise.all(sent.map((job) => job.waitUntilFinished(events)));
  console.log(JSON.stringify({alone, at_once: atOnce, sending: count / sending}));
}

async function main() {
  const [command, ...args] = process.argv.slice(2);
  if (command === "worker") {
    await work();
    return;
  }
  if (command === "fill") {
    await fill(args[0], Number(args[1]), args.slice(2).map(Number));
  } else {
    await trips(Number(args[0]));
  }
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
