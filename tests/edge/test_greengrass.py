"""The real awsiotsdk client against a double of the nucleus."""

import gc
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from nucleus import Nucleus

from castline.edge.links import GreengrassLink, LinkDown, NotAllowed, TokenRefused
from castline.errors import ConfigError


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that other threads bring about."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def insist(link: GreengrassLink, payload: bytes) -> None:
    """Publish after a connection was lost: that may be seen in the call, or before it."""
    try:
        link.publish("ml/a", payload)
    except LinkDown:
        link.publish("ml/a", payload)


@pytest.fixture
def nucleus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nucleus]:
    with Nucleus({"Source": "image:a.jpg"}, iot={"ml/a"}, local={"seen"}) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def link(nucleus: Nucleus) -> Iterator[GreengrassLink]:
    made = GreengrassLink(timeout=5)
    yield made
    made.close()


def test_results_go_to_the_cloud_and_to_the_device(nucleus: Nucleus, link: GreengrassLink) -> None:
    link.publish("ml/a", b'{"a":1}')
    link.local("seen", b"\x00\xff")
    link.state("RUNNING")
    assert nucleus.published == [("iot", "ml/a", b'{"a":1}'), ("local", "seen", b"\x00\xff")]
    assert nucleus.states == ["RUNNING"]
    assert link.configuration() == {"Source": "image:a.jpg"}
    assert nucleus.connections == 1


def test_a_topic_that_is_not_allowed(nucleus: Nucleus, link: GreengrassLink) -> None:
    with pytest.raises(NotAllowed, match=r"ml/b: the nucleus does not allow it(.|\n)*accessControl"):
        link.publish("ml/b", b"")
    with pytest.raises(NotAllowed, match="local publishing, topic ml/a"):
        link.local("ml/a", b"")
    link.publish("ml/a", b"1")
    assert nucleus.published == [("iot", "ml/a", b"1")]


def test_a_nucleus_that_cannot_take_it_now(nucleus: Nucleus, link: GreengrassLink) -> None:
    nucleus.failing = True
    with pytest.raises(LinkDown, match="the spooler is full"):
        link.publish("ml/a", b"1")
    nucleus.failing = False
    link.publish("ml/a", b"1")
    assert nucleus.connections == 1


@pytest.mark.parametrize("patient", [True, False])
def test_a_token_that_is_not_known(
    nucleus: Nucleus, link: GreengrassLink, monkeypatch: pytest.MonkeyPatch, patient: bool
) -> None:
    nucleus.patient = patient
    monkeypatch.setenv("SVCUID", "stolen")
    with pytest.raises(TokenRefused, match=r"does not take this component's token \(SVCUID\)(.|\n)*next: "):
        link.configuration()


def test_started_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SVCUID", raising=False)
    monkeypatch.setenv("AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT", "/nowhere")
    with pytest.raises(ConfigError, match=r"not started by Greengrass(.|\n)*--config FILE"):
        GreengrassLink()


def test_a_connection_that_is_lost_in_the_middle_is_made_again(nucleus: Nucleus, link: GreengrassLink) -> None:
    link.publish("ml/a", b"1")
    nucleus.cut_after = 0
    with pytest.raises(LinkDown):
        link.publish("ml/a", b"2")
    link.publish("ml/a", b"2")
    nucleus.disconnect()
    insist(link, b"3")
    assert [payload for _, _, payload in nucleus.published] == [b"1", b"2", b"3"]


def test_a_nucleus_that_is_restarted(nucleus: Nucleus, link: GreengrassLink) -> None:
    link.publish("ml/a", b"1")
    nucleus.end()
    with suppress(LinkDown):  # that the connection is gone is seen in this call, or before it
        link.publish("ml/a", b"2")
    with pytest.raises(LinkDown, match="no connection to the nucleus"):
        link.publish("ml/a", b"2")
    nucleus.start()
    link.publish("ml/a", b"2")
    assert len(nucleus.published) == 2


def test_a_nucleus_that_does_not_answer(nucleus: Nucleus, monkeypatch: pytest.MonkeyPatch) -> None:
    link = GreengrassLink(timeout=0.3)
    link.publish("ml/a", b"1")
    hang = threading.Event()
    monkeypatch.setattr(nucleus, "_answer", lambda *_: hang.wait(5) and {})
    with pytest.raises(LinkDown, match=r"does not answer within 0\.3 s"):
        link.publish("ml/a", b"2")
    hang.set()
    link.close()


def test_a_change_of_the_configuration_is_told_also_after_the_connection_was_lost(
    nucleus: Nucleus, link: GreengrassLink
) -> None:
    told = threading.Event()
    link.on_configuration(told.set)
    until(told.is_set)  # nobody knows what changed before
    told.clear()
    nucleus.configure(Fps="3")
    until(told.is_set)
    assert link.configuration()["Fps"] == "3"
    told.clear()
    nucleus.end()
    nucleus.start()
    insist(link, b"1")
    until(told.is_set)
    told.clear()
    nucleus.configure(Fps="4")
    until(told.is_set)


def test_connections_leave_nothing_behind(nucleus: Nucleus, link: GreengrassLink) -> None:
    """Threads of lost connections end."""
    link.publish("ml/a", b"")
    before = threading.active_count()
    for _ in range(5):
        nucleus.disconnect()
        insist(link, b"")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    until(lambda: threading.active_count() <= before + 4)
