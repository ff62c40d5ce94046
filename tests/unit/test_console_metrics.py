"""What the services' metrics add up to."""

from console import display, metrics
from console.metrics import Alerts, Beyond, Lane, Outage, Rates, Source, UnknownType

INGRESS = """
# HELP postlog_ingress_deliveries_total HTTP deliveries by outcome
# TYPE postlog_ingress_deliveries_total counter
postlog_ingress_deliveries_total{outcome="accepted",provider="nexuspromail"} 10.0
postlog_ingress_deliveries_total{outcome="bad_signature",provider="nexuspromail"} 2.0
postlog_ingress_deliveries_total{outcome="retry",provider="nexuspromail"} 1.0
# TYPE postlog_ingress_events_total counter
postlog_ingress_events_total{provider="nexuspromail",type="hard_bounce"} 4.0
postlog_ingress_events_total{provider="nexuspromail",type="complaint"} 5.0
# TYPE postlog_ingress_events_created gauge
postlog_ingress_events_created{provider="nexuspromail",type="complaint"} 1.76e+09
# TYPE postlog_ingress_dead_letters_total counter
postlog_ingress_dead_letters_total{provider="nexuspromail"} 1.0
# TYPE postlog_ingress_pending_events gauge
postlog_ingress_pending_events 3.0
"""
PROCESSOR = """
# TYPE postlog_processor_records_total counter
postlog_processor_records_total{partition="0"} 6.0
postlog_processor_records_total{partition="10"} 2.0
# TYPE postlog_processor_duplicates_total counter
postlog_processor_duplicates_total{age="1h",provider="nexuspromail"} 2.0
# TYPE postlog_processor_suppression_writes_total counter
postlog_processor_suppression_writes_total 5.0
# TYPE postlog_processor_dead_letters_total counter
postlog_processor_dead_letters_total{error="NoRecipient"} 1.0
postlog_processor_former_keys{partition="3"} 2.0
postlog_processor_former_keys{partition="4"} 1.0
# TYPE postlog_processor_lane_open gauge
postlog_processor_lane_open{partition="10"} 1.0
postlog_processor_lane_open{partition="2"} 0.0
postlog_processor_lane_open{partition="0"} 1.0
# TYPE postlog_processor_lane_lag gauge
postlog_processor_lane_lag{partition="0"} 1.0
postlog_processor_lane_lag{partition="2"} 99.0
postlog_processor_lane_lag{partition="10"} 7.0
"""


UNKNOWN = """
# TYPE postlog_processor_unknown_types_total counter
postlog_processor_unknown_types_total{provider="nexuspromail",type="ping"} 2.0
postlog_processor_unknown_types_total{provider="nexuspromail",type="domain.verified"} 0.0
"""


def source(process: str, text: str, at: float = 0.0) -> Source:
    return Source(process, at, metrics.parse(text))


def test_totals_are_sums_over_processes_labels_and_stages() -> None:
    found = metrics.totals([source("ingress", INGRESS), source("processor", PROCESSOR)])
    assert (found.deliveries, found.refused, found.events_in, found.pending) == (13, 3, 9, 3)
    assert (found.processed, found.duplicates, found.suppression_writes) == (8, 2, 5)
    assert found.dead_letters == 2
    assert found.lag == 8


def test_lanes_are_those_open_in_order_and_a_lane_given_away_says_nothing() -> None:
    other = """
    # TYPE postlog_processor_lane_open gauge
    postlog_processor_lane_open{partition="2"} 1.0
    # TYPE postlog_processor_lane_lag gauge
    postlog_processor_lane_lag{partition="2"} 4.0
    """.replace("    ", "")
    assert metrics.lanes([source("processor", PROCESSOR), source("processor-2", other)]) == [
        Lane(0, "processor", 1),
        Lane(2, "processor-2", 4),
        Lane(10, "processor", 7),
    ]


def events_in(count: int) -> str:
    return f'# TYPE postlog_ingress_events_total counter\npostlog_ingress_events_total{{type="x"}} {count}.0\n'


def test_a_rate_is_what_grew_by_the_time_between() -> None:
    before, after = [source("ingress", events_in(100), at=10.0)], [source("ingress", events_in(150), at=12.0)]
    assert metrics.rates(before, after) == Rates(events_in=25.0, processed=0.0)


def test_the_first_event_ever_makes_a_rate_too() -> None:
    assert metrics.rates([source("ingress", "", 0.0)], [source("ingress", events_in(3), 1.0)]).events_in == 3.0


def test_a_process_that_began_again_between_two_looks_does_not_make_a_negative_rate() -> None:
    before, after = [source("ingress", events_in(100), at=1.0)], [source("ingress", events_in(5), at=2.0)]
    assert metrics.rates(before, after).events_in == 0.0


def test_without_two_looks_there_is_no_rate() -> None:
    assert metrics.rates([], [source("ingress", events_in(5), at=2.0)]) == Rates(None, None)


def test_records_beyond_are_what_the_processor_that_sees_most_says_and_nothing_where_there_are_none() -> None:
    text = """# TYPE postlog_processor_records_beyond gauge
postlog_processor_records_beyond{{topic="email-events"}} {}.0
postlog_processor_records_beyond{{topic="email-events.dlq"}} 0.0
"""
    sources = [source("processor", text.format(3)), source("processor-2", text.format(1_005))]
    [found] = metrics.beyond(sources)
    assert found == Beyond("email-events", 1_005)
    assert "1,005 records on partitions of email-events" in display.beyond(found).plain


def test_the_alerters_heartbeat_has_an_age() -> None:
    text = """# TYPE postlog_alerter_heartbeat_timestamp_seconds gauge
postlog_alerter_heartbeat_timestamp_seconds 1000.0
# TYPE postlog_alerter_unsent_alerts gauge
postlog_alerter_unsent_alerts 2.0
# TYPE postlog_alerter_untold_letters gauge
postlog_alerter_untold_letters 5.0
"""
    assert metrics.alerts([source("alerter", text)], now=1003.5) == Alerts(3.5, 2, 5)
    assert metrics.alerts([source("alerter", "")], now=1003.5) is None


def test_text_that_is_no_metrics_has_no_samples() -> None:
    assert metrics.parse("<html>not found</html>") == []


def test_without_an_open_lane_nobody_knows_the_lag() -> None:
    assert metrics.totals([source("ingress", INGRESS)]).lag is None


def test_an_outage_is_as_old_as_the_first_who_noticed() -> None:
    def circuits(crm: float, mail: float) -> str:
        name = metrics.CIRCUIT_OPENED
        return f'# TYPE {name} gauge\n{name}{{handler="crm"}} {crm}\n{name}{{handler="mail"}} {mail}\n'

    sources = [source("processor", circuits(200.5, 0)), source("processor-2", circuits(100.5, 0))]
    assert metrics.outages(sources) == [Outage("crm", 100.5)]
    assert metrics.outages([source("processor", circuits(0, 0))]) == []


def test_owed_calls_are_added_up() -> None:
    text = f"# TYPE {metrics.CALLS_OWED} gauge\n" + "".join(
        f'{metrics.CALLS_OWED}{{partition="{n}"}} {n}\n' for n in range(4)
    )
    assert metrics.totals([source("processor", text)]).owed == 6


def test_types_that_nobody_knows_are_named_and_summed_over_processors() -> None:
    found = metrics.unknown_types([source("processor", UNKNOWN), source("processor-2", UNKNOWN)])
    assert found == [
        UnknownType("nexuspromail", "domain.verified", 0),
        UnknownType("nexuspromail", "ping", 4),
    ]
    assert display.unknown(found).endswith(": nexuspromail domain.verified (0), nexuspromail ping (4)")


def test_former_keys_are_counted_over_all_lanes_and_the_cure_is_named() -> None:
    found = metrics.former_keys([source("processor", PROCESSOR), source("lookup", "")])
    assert found == 3
    assert display.former(found).startswith("3 entries")
    assert display.former(found).endswith("postlog replay --rebuild")
