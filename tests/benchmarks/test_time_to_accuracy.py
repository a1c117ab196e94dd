from benchmarks.time_to_accuracy import Validation, row


def test_a_row_has_the_first_validation_at_or_above_each_level():
    found = [
        Validation(steps=50, seconds=60, processor=90, ap50=0.4, ap=0.1),
        Validation(steps=100, seconds=120, processor=180, ap50=0.6, ap=0.25),
        Validation(steps=150, seconds=180, processor=270, ap50=0.55, ap=0.2),
    ]
    reached = "2.0 (3.0; 100)"  # minutes, processor minutes, steps
    cells = ["ours", "1.00", "30", reached, reached, "not reached", "0.600 at 2.0", "0.550, 0.200"]
    assert row("ours", 30.0, found) == f"| {' | '.join(cells)} |"
