"""Steering: can I push the model towards a concept and still get good text?"""

import streamlit as st

from dashboard.service import neuron_directions, workspace_facts
from dashboard.steering import controls, request, results, run
from dashboard.widgets import frame, url

HELP = """
Three columns write at the same time from the same prompt and seed. **Unsteered** is the model as it is. **Raw steered** adds the
direction, *strength* × the layer's median norm, to the layer's output at every new token. **GLP-projected** adds the same push, then
noises the result to *noise level* and denoises it with the GLP: what comes out is an activation that the model could have had.

- **Colour**: *distance* is the GLP's surprise at the activation that produced the token, in units of a typical real token (1); the
  shaded band of the chart holds 90% of held-out real tokens. *Surprise* is how unlikely the unsteered model finds the token. Outlined
  tokens come from massive activations, which are left alone and have no distance. Hover a token for its numbers.
- **log-probability**: mean under the unsteered model. It rewards repetition, so read it beside **repetition**, the share of bigrams that
  occurred before in the column.
- **concept**: the probability that the text shows the concept, by a probe on the unsteered model's reading of the whole text.
- **kept push**: how much of the push along the direction the projection left. A low number means that the prior undid the steering.
- **Strength**: near 0.5 to 1 a direction shows and the text holds together; above 1.3 even projected text repeats itself in a model of this
  size. Below 0 the push goes away from the concept, which need not be its opposite: the direction was made to tell the concept from
  everything else.
- **Steps** are network calls for ab2, midpoint and radau (in threes); for euler they are steps of the released schedule, of which
  noise level 0.5 runs half.
"""

directions = [*workspace_facts.directions(), *neuron_directions.asked("steering_direction")]
params = request.params(directions)
slot = frame.page_frame("Steering", "Can I push the model towards a concept and still get good text?", params.values())
beside = controls.controls(params, directions)
run.keep_up(params, directions)
current = run.current()
live = current is not None and current.live
with beside:
    controls.buttons(params, directions, live=live)
results.messages()

values = request.widget_values(params)
link = {param.key: values[name] for name, param in params.items()}
with slot:
    frame.share("steering", link)
    address = url.page_link("steering", link)
    frame.download(results.files(current, values["colour"], address), key="steering_download")

if current is None:
    st.info("An example is filled in: press Run.", icon=":material/play_arrow:")
else:
    results.colours(params)
    places = results.Places()
    if live:
        results.stream(places, current, values["colour"])
        st.rerun()
    results.ended(places, current, values["colour"])
frame.how_to_read(HELP)
