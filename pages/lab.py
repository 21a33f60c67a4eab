"""Lab: does the prior buy concept at equal fluency, and where should I set it?"""

from dashboard.lab import views
from dashboard.widgets import frame, url

HELP = """
**AUROC** is how well the projection of a text's activation on the direction tells the concept's texts from the others, measured on
texts that the direction was not made from: 0.5 is chance, 1 is perfect. A direction taken from a file or a neuron has none.
"""

slot = frame.page_frame("Lab", "Does the prior buy concept at equal fluency, and where should I set it?", views.params())
view = views.choose()
files = views.draw(view)
with slot:
    frame.share("lab", url.current(views.params()))
    frame.download(files, key="lab_download")
frame.how_to_read(HELP)
