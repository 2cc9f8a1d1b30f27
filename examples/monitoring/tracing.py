from celery.signals import worker_process_init, worker_process_shutdown
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

tracer = trace.get_tracer("shop")
provider = TracerProvider()


def start(**_: object) -> None:
    # In production an OTLPSpanExporter takes the place of the console.
    provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()  # type: ignore[no-untyped-call]


def stop(**_: object) -> None:
    provider.shutdown()


def connect() -> None:
    worker_process_init.connect(start)
    worker_process_shutdown.connect(stop)
