"""Manifold: how far is this from what the model really produces?"""

from dashboard.manifold import controls, views
from dashboard.widgets import frame

HELP = """
The GLP was trained on real activations only, so what surprises it is off their manifold. Every measure is larger for what is farther
off, and is shown as a percentile: the share of real held-out activations, which no GLP was trained on, that are nearer.

- **Denoising error**: the GLP's squared error at noise level 0.5 under one fixed noise, as a distance (1 = a typical real token).
- **Displacement**: how far projection (noise level 0.5, the same noise for all) moves the activation.
- **Mahalanobis**: distance from the mean under the covariance of the training activations; it knows no GLP.
- **Nearest neighbour**: distance to the nearest activation of the bank, in latent space.
- **Log-likelihood**: under the GLP's probability-flow ODE, 32 midpoint steps, divergence by Hutchinson's estimate with four probes;
  minus nats a dimension, in latent space. Hover shows the standard error. It takes the longest, so texts are cut to 64 tokens.

The first token is never scored, nor are massive activations (outlined): they are attention sinks, far off by nature. A percentile of 97%
is no verdict: three of a hundred real tokens lie beyond it.

**Strength**: the last token of every prompt is pushed along the direction and measured. Where the zones begin was measured on steered
texts: what share of them is broken at what mean distance. Results are kept: after Stop, *Go on* measures only the rest.

**Map**: both planes are fitted on real activations only, everything else is placed on them. A plane hides most dimensions: two clouds that
mix on it may still be told apart, which is what the tests below it measure.
"""

slot = frame.page_frame("Manifold", "How far is this from what the model really produces?", controls.params().values())
view = views.choose()
files = views.draw(view)
with slot:
    frame.share("manifold", controls.link())
    frame.download(files, key="manifold_download")
frame.how_to_read(HELP)
