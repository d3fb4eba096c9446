"""The embedded default: tiny vision-language models of the real classes, pretrained from nothing on two cores."""
