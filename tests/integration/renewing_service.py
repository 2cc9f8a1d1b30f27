"""The tasks of the tests of faults; kombu looks all the time for credentials that were renewed."""

from tests.integration.faults_service import app, late

__all__ = ("app", "late")

app.conf.broker_transport_options = {
    **app.conf.broker_transport_options,
    "reauth_check_interval": 0.02,
}
