import sentry_sdk


def connect() -> None:
    sentry_sdk.init(traces_sample_rate=0.0)
