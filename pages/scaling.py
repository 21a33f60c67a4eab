"""Scaling: what does compute buy?"""

from dashboard.scaling import law, view
from dashboard.widgets import frame

HELP = """
Each curve is one training run, each point a kept checkpoint, measured on the same held-out activations with the same noise. **Compute**
is 6 N D: six FLOPs for each of N parameters and each of D activations seen. Hollow points lie before the end of the learning
rate's warm-up: there the schedule sets the loss, so no fit uses them.

- **Gaussian prior** (dashed): the loss of the best linear denoiser, π/2 · mean √eigenvalue of the activations' covariance. A GLP
  that does not get below it has learned nothing beyond mean and covariance.
- **The law** is fitted by robust least squares in log space; the band holds 95% of 1000 bootstrap refits. It measures scatter around
  the curve. It does not know the luck of a run (none was made again with another seed), nor whether a power law is the right curve:
  look at the residuals, and at how short the measured range is.
- **Compute-efficient frontier**: the checkpoints that no other beats with as little compute.
- **Stars on a branch**: a run that had ended, its learning rate fallen, and then was made longer. The line goes on at the full rate, so
  for a while it lies above the star; such points are beaten, and not on the frontier.
- Click a checkpoint for its numbers; where its weights are kept, for the way to steer with it.
- The learning rate falls only in the last part of a run, which lowers the loss at once. A checkpoint from before lies above what a run
  that ended there would have reached, so the end of each run looks better than its middle.
- **The paper's law** (E = 0.52, α = 0.169) is of another LLM and another width: only its shape can be compared, not its level.
  It is drawn through the middle of our fit.
"""

slot = frame.page_frame("Scaling", "What does compute buy?", law.PARAMS.values())
view.draw(view.controls(), slot)
frame.how_to_read(HELP)
