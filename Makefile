# Thin: each line is a command one could type.

.PHONY: run test bench bench-micro lint sim install uninstall

run:
	cargo run --release -p corering -- serve

test:
	bash scripts/test.sh

# Beside the peers and the machine's limits: make bench SIZE=full WORKLOADS="put_durable_1 server" RESUME=1
SIZE ?= quick
bench:
	bash scripts/bench.sh $(SIZE) $(if $(RESUME),--resume) $(WORKLOADS)

# Each step of a put and a get.
bench-micro:
	cargo bench -p corering-benches

# The engine in the simulation, on all cores: make sim SEEDS=0..20000
SEEDS ?= 0..2000
sim:
	cargo run --release -p corering-sim -- run $(SEEDS)

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

-include mk/install.mk mk/fuzz.mk
