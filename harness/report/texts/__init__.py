"""The texts people read first, README, docs/growth.md and results/FINDINGS.md: no number in them is typed by hand."""
