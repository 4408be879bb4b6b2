"""Rules 5 of the gate, for replaying the verdicts that they made.

They decide as rules 6 do but in three places, which ask `policy.rules`: whether a reference is above its majority class
(`evals.gate.pairing`), the early warning of right answers that became less likely (`evals.gate.drift`), and how many items would decide
a gain (`evals.gate.gain`).
"""
