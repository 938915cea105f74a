"""Keys, tokens and connection strings of hubs are where they belong and nowhere else."""

import leaks
import sdk
from credentials import fresh_id
from leaks import search
from linked_hubs import NORTH, SOUTH

SERVER_ERROR = {"refuse": {"status": 503, "code": "ServiceUnavailable", "retryAfter": None}}


def test_no_log_answer_or_file_holds_a_key_of_a_hub_or_a_device(link):
    """DPS-HUB-18, DPS-INST-13, DPS-EXPLAIN-5: at the most talkative level, with faults and refusals."""
    hubs = link(NORTH, SOUTH, log_level="trace")
    hubs.goes_to(NORTH)
    devices = [fresh_id() for _ in range(6)]
    for step, effect in (("bulk", SERVER_ERROR), ("bulk", "garble"), ("bulk", "cutMidway")):
        hubs.registries[NORTH].plan(step, effect)
    for operation in [hubs.begin(device) for device in devices]:
        assert operation.ended(within=60)[0] == "assigned"
    hubs.goes_to(SOUTH)
    for step in ("readIdentity", "readTwin", "deleteIdentity"):
        hubs.registries[NORTH].plan(step, "garble")
    for operation in [hubs.begin(device) for device in devices]:
        assert operation.ended(within=60)[0] == "assigned"
    for device in devices:
        hubs.only_at(SOUTH, device, within=60)
    hubs.registries[SOUTH].renew_key()
    sdk.refusal(hubs.register, devices[0])
    hubs.site.write_secret(f"{SOUTH}.key", hubs.registries[SOUTH].connection_string.replace("HostName", "Host"))
    hubs.serving.send(1)
    hubs.serving.log_line("the configuration could not be read again")
    hubs.serving.record()
    code, _ = hubs.serving.stop()
    assert code == 0
    complaints, searched = search(hubs.site.folder, leaks.made)
    assert complaints == []
    assert {".log", ".db", ".explanations", ".metrics", ".admin"} <= searched.keys()
    # What is searched for would be found.
    north = hubs.site.folder / f"{NORTH}.key"
    assert leaks.Search(leaks.made).names_in(north.read_bytes()) == {"the key of a hub"}
    assert NORTH in hubs.serving.log()
