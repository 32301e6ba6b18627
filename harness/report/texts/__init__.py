"""The texts people read first, README, docs/ and results/FINDINGS.md: no number in them is typed by hand."""
