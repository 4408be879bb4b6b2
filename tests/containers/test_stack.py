"""The stack of infra/compose.yaml in real containers: deployed as the guide says, a drop in the inbox becomes a champion."""

from __future__ import annotations

from typing import Any

ROUND_SECONDS = 1500.0


def finished(stack: Any, count: int) -> Any:
    def ended() -> Any:
        rounds = stack.answer("history")["rounds"]
        return rounds if len(rounds) >= count and all(each["status"] != "running" for each in rounds) else None

    return ended


def test_every_service_keeps_the_rules_of_the_file(stack: Any, containers: Any) -> None:
    for service in ("postgres", "minio", "mlflow", "prefect", "worker-gpu", "worker-cpu"):
        found = containers.inspect("container", stack.container(service))
        assert found["Config"]["User"] not in ("", "0", "0:0"), service
        if service != "postgres":
            assert not found.get("EffectiveCaps"), f"{service} has capabilities"
        published = found["HostConfig"]["PortBindings"] or {}
        assert all(each["HostIp"] == "127.0.0.1" for bound in published.values() for each in bound), service


def test_doctor_is_content_inside(deployed: Any) -> None:
    done = deployed.run("skillstack", "doctor", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_drop_in_the_inbox_becomes_the_champion(deployed: Any, containers: Any, user: Any, measured: dict[str, str]) -> None:
    user.drop(deployed, "route")
    rounds = containers.wait_for(finished(deployed, 1), "the first round to end", ROUND_SECONDS)
    assert (rounds[-1]["decision"], rounds[-1]["champion"]) == ("PASS", True), rounds[-1]
    assert deployed.answer("verify")["ok"]
