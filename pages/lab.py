"""Lab: does the prior buy concept at equal fluency, and where should I set it?"""

from dashboard.lab import views
from dashboard.widgets import frame, url

HELP = """
**A direction** says which way to push the model's activations so that its text shows a concept.

- **DiffMean**: the mean activation of the texts with the concept minus that of the others. **Pairs**: the way in which the first text of
  one box differs most from the first of the other, the second from the second, and so on. **Logistic probe**: the weights that tell the
  two apart best; it separates well and often steers less.
- **AUROC** says how well the projection of a text's activation on the direction tells the concept's texts from the others: 0.5 is chance,
  1 is perfect. Every text is scored along a direction that was made without it and a quarter of the others; the interval allows for what
  these directions share. The direction that is kept is made from all texts.
- A direction from **a file or a meta-neuron** was made from no texts. Measured on yours, it gets an AUROC, and a concept probe by which
  steered texts are scored.
- **A chance verdict** does not say that there is no such concept in the model: it may be read at another layer, in longer texts, or from
  more of them.
- A high AUROC does not promise that pushing works. That is what Steering, and the sweep, are for.

**A sweep** writes every prompt under every arm at every strength, noise level and seed, and reads each text back with the unsteered model.

- **Gain**: share of the way from the unsteered texts' concept score to 1. **Fluency**: where a token's log-probability lies between broken
  text (0: less likely than 95% of the model's own draws) and unsteered text (1), times the share of new words that is left.
  **Hypervolume**: the area under an arm's curve. Intervals are 95% over prompts, the same prompts for all arms.
- **Wrong sign** and **random direction** are walked as the walk is, at each of its noise levels: what they gain is not the direction's.
  **Prompted** asks in words.
- **The setting to use** is the point of greatest gain times fluency; with few prompts its neighbours may be as good.
- A sweep goes on when you leave the page, and every text is kept as it comes: after Stop, or after the server's end, Run writes only the
  others. Every sweep is a saved run, whose link opens it, and whose settings `sweep-steering` runs again, in a terminal.
"""

slot = frame.page_frame("Lab", "Does the prior buy concept at equal fluency, and where should I set it?", views.params())
view = views.choose()
files = views.draw(view)
with slot:
    frame.share("lab", url.chosen(views.params()))
    frame.download(files, key="lab_download")
frame.how_to_read(HELP)
