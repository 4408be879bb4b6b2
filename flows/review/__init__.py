"""After a round: audit, monthly report, re-evaluation, replay, approval, rollback, export."""
