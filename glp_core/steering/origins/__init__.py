"""Where directions come from: texts of two classes, contrasting instructions, other tools' files; and the evidence for them."""
