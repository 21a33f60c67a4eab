"""Steering: can I push the model towards a concept and still get good text?"""

import streamlit as st

from dashboard.lab import direction_view
from dashboard.service import workspace_facts
from dashboard.service.directions import neuron_directions
from dashboard.steering import controls, examples, request, results, run
from dashboard.widgets import frame, url

HELP = """
Three columns write at the same time from the same prompt and seed. **Unsteered** is the model as it is. **Raw steered** adds the
direction, *strength* × the layer's median norm, to the layer's output at every new token. The third brings the pushed activation back:

- **walk**: the push is cut into small parts; each part is followed by a little noise, which the GLP takes away again. With a bound
  (the tuned walk has one for all but short pushes) it ends before a part that would lead further than most real activations lie, so
  however strong the push, it stays where the GLP knows the way. This is our method, not the paper's.
- **paper's projection**: the whole push at once, then noise to *noise level*, denoised by the GLP.
- **norm-restored** scales the pushed activation to the norm it had; **Gaussian prior** denoises with a Gaussian in the GLP's place.

How to read the numbers:

- **Colour**: *distance* is the GLP's surprise at the activation that produced the token, in units of a typical real token (1); the
  shaded band of the chart holds 90% of held-out real tokens. *Surprise* is how unlikely the unsteered model finds the token. Outlined
  tokens come from massive activations, which are left alone and have no distance. Hover over a token for its numbers.
- **log-probability**: mean under the unsteered model. It rewards repetition, so read it together with **repetition**, the share of
  tokens, and of pairs of tokens, that have occurred in the column before.
- **concept**: the probability that the text shows the concept, by a probe on the unsteered model's reading of the whole text.
- **kept push**: how much of the push is left along the direction after projection. *Did the prior undo my steering?* says it token by
  token, with what the projection did aside, and writes controls to compare with.
- **The line under the columns** calls a text broken when half of its tokens and a third of its pairs occurred before, or when the
  unsteered model gives it less than -5 nats a token. It is about these texts only: another prompt or seed may turn out differently.
- **Strength** below 0 pushes away from the concept, which need not be its opposite: the direction was made to tell the concept from
  everything else.
- **Stack** adds directions: their pushes become one, which is then projected. **Where** lets the push act on all tokens, on some words of
  the prompt only, or on those new tokens where a meta-neuron or a concept probe fires.
- **Steps** (under More) are network calls for ab2, midpoint and radau (in threes); for euler they are steps of the released schedule,
  of which noise level 0.5 runs half.
"""

directions = [*workspace_facts.directions(), *neuron_directions.asked("steering_direction")]
params = request.params(directions)
request.open_old_link()
link_holds = [*params.values(), *([] if directions else direction_view.params())]
slot = frame.page_frame("Steering", "Can I push the model towards a concept and still get good text?", link_holds)
if not directions:
    controls.without_directions()
    direction_view.builder()
    st.stop()
controls.controls(params, directions)
results.messages()

current, values = run.current(), request.widget_values(params)
link = {param.key: values[name] for name, param in params.items()}
with slot:
    frame.share("steering", link)
    of_run = request.link(current.request, params, directions) if current else link
    files = results.files(current, values["colour"], url.page_link("steering", of_run))
    frame.download(files, key="steering_download")

if current is None:
    st.info(examples.invitation(values["prompt"], directions), icon=":material/play_arrow:")
else:
    places = results.Places()
    if current.live:
        results.stream(places, current, values["colour"])
        st.rerun()
    if changed := current.changed(params, directions):
        results.of_other_settings(places, current, changed)
    results.ended(places, current, values["colour"])
if words := examples.expected(values["prompt"], directions):
    frame.notice_box(words)
frame.how_to_read(HELP)
