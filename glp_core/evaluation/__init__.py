"""How good a prior is: fidelity, scorecard, detection, zones, scores of checkpoints, the scaling law over runs."""
