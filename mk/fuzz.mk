# `make fuzz`: every decoder guided by coverage, SECONDS (60) each; scripts/fuzz.sh says more.

.PHONY: fuzz

# From the command line alone: a shell has a SECONDS of its own.
fuzz:
	SECONDS_EACH=$(if $(filter command\ line,$(origin SECONDS)),$(SECONDS),60) bash scripts/fuzz.sh
