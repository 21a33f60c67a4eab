"""The Lab page through the app's entry, with a tiny real model."""

from tests.support import pages


def test_the_lab_lists_the_directions_with_their_evidence(workspace, llm):
    at = pages.open_page("lab")
    table = at.dataframe[0].value
    assert list(table["Direction"]) == ["positive sentiment", "upwards"]
    assert list(table["AUROC on held-out texts"]) == [0.7, 0.6]
    assert list(table["How it was made"]) == ["drawn, positive", "drawn, up"]


def test_a_link_to_a_view_that_there_is_not_is_named(workspace, llm):
    at = pages.open_page("lab", lab_view="<b>x")
    assert any("lab" in str(warning.value).lower() or "View" in str(warning.value) for warning in at.warning)
