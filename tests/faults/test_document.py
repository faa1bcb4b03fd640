"""docs/reliability.md tells of what is tried here."""

from reliability import DOCUMENT, fault_table, fill


def test_every_fault_is_in_the_document(request):
    markers = (item.get_closest_marker("fault") for item in request.session.items)
    text = DOCUMENT.read_text(encoding="utf-8")
    for marker in filter(None, markers):
        row = (marker.kwargs[name] for name in ("fault", "provoked", "result"))
        assert f"| {' | '.join(row)} |" in text


def test_the_tables_are_put_in_their_places():
    record = {"test": "a", "outcome": "passed", "fault": "f", "provoked": "p"}
    records = [{**record, "result": "r"}, {**record, "result": "r", "test": "b"}]
    table = fault_table(records)
    assert table.splitlines()[-1] == "| f | p | r | 2 passed |"
    text = "before\n<!-- faults -->\nold\n<!-- end of faults -->\nafter"
    expected = f"before\n<!-- faults -->\n{table}\n<!-- end of faults -->\nafter"
    assert fill(text, "faults", table) == expected
