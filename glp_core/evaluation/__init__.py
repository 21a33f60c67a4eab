"""How good a prior is: fidelity, scorecard, detection, zones, the scaling law."""
