import asyncio

import tracing
from app import charge


async def main() -> None:
    with tracing.tracer.start_as_current_span("order"):
        sent = [await charge.adelay(cents) for cents in (1, 2, 3)]
        print(await asyncio.gather(*sent))


if __name__ == "__main__":
    tracing.start()
    asyncio.run(main())
    tracing.stop()
