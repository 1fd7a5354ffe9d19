# `make help` is the front door; CI calls the same targets.

GO      ?= go
BUILD   := .build
PROGRAM := $(BUILD)/freightliner
TOOLS   := $(CURDIR)/$(BUILD)/tools
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
# Packages with concurrency of their own run under the race detector.
RACE    := ./executor/... ./statefile/... ./providers/... ./planner/...

.DEFAULT_GOAL := help
.PHONY: help build demo test check fmt vet staticcheck race cross tools docs clean

help: ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

build: ## build the program into .build/freightliner
	@mkdir -p $(BUILD)
	CGO_ENABLED=0 $(GO) build -trimpath -o $(PROGRAM) ./cmd/freightliner

demo: build ## see it work: two registries, a secret store, plan, apply, drift; under a minute
	$(GO) run ./examples/demo -program $(PROGRAM)

test: tools ## run all tests, end to end against the real distribution registry
	FREIGHTLINER_TEST_BIN=$(TOOLS) $(GO) test -timeout 20m ./...

check: fmt vet staticcheck test race docs cross ## everything that must hold before a commit lands

fmt: ## gofmt finds nothing to change
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt:"; echo "$$out"; exit 1; fi

vet: ## go vet
	$(GO) vet ./...

staticcheck: tools ## staticcheck
	$(TOOLS)/staticcheck ./...

race: tools ## tests of the concurrent packages under the race detector
	FREIGHTLINER_TEST_BIN=$(TOOLS) $(GO) test -race -timeout 20m $(RACE)

cross: ## compile for linux, darwin and windows on amd64 and arm64
	@for p in $(PLATFORMS); do echo "build $$p"; GOOS=$${p%/*} GOARCH=$${p#*/} CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/freightliner && GOOS=$${p%/*} GOARCH=$${p#*/} CGO_ENABLED=0 $(GO) vet ./... || exit 1; done

docs: ## generated pages are up to date
	$(GO) test -run 'TestGenerated' ./cmd/freightliner

tools: ## build the test tools (distribution, staticcheck) from their own module
	@mkdir -p $(TOOLS)
	@$(GO) build -C .ci/tools -o $(TOOLS)/registry github.com/distribution/distribution/v3/cmd/registry
	@$(GO) build -C .ci/tools -o $(TOOLS)/staticcheck honnef.co/go/tools/cmd/staticcheck

clean: ## remove what was built
	rm -rf $(BUILD) .demo

.PHONY: bench-peers
bench-peers: build ## compare with crane, regsync, oras and skopeo; BENCH='-workload cold -scale 0.1' and so on
	$(GO) run ./.ci/bench -program $(PROGRAM) $(BENCH)

# The campaigns that a short form of runs in `make test`. Each failure prints the
# seed that reproduces it. KILLS and KILLTIME bound the kills of a real apply.
KILLS    ?= 2000
KILLTIME ?= 4h
# Which fuzz targets run, for how long, or how often: make fuzz FUZZTIME=1h
# FUZZ=FuzzMerge, or make fuzz ENGINE=libfuzzer FUZZRUNS=50000000 FUZZ=FuzzMerge.
# libFuzzer is some ten times as fast; it needs Linux and clang.
ENGINE   ?= go
FUZZTIME ?= 30s
FUZZRUNS ?= 1000000
FUZZ     ?= Fuzz
FUZZIN   ?= ./statefile ./planner ./providers ./providers/registry ./providers/secret/gcp
# A file system in memory, where there is one: a kill does not ask whether the
# disk is fast, and the real registries sync a lot.
CRASHTMP ?= $(firstword $(wildcard /dev/shm) $(TMPDIR) /tmp)

.PHONY: crash fuzz fuzz-go fuzz-libfuzzer bench
crash: tools ## the full campaigns: 2,000 kills of a real apply, 200,000 crash states, damage, merges, faults, locks, 15,000 broken calls of secret stores
	@command -v strace >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get install -y strace; } || echo "crash: strace is not here and can not be installed: kills at single file operations are left out"
	$(GO) test ./statefile -run Campaign -v -timeout 3h -campaign=full
	$(GO) test ./providers/secret/aws ./providers/secret/gcp -run Campaign -v -timeout 1h -campaign=full
	TMPDIR=$(CRASHTMP) FREIGHTLINER_TEST_BIN=$(TOOLS) $(GO) test ./cmd/freightliner -run '^Test(Crash|Fault)Campaign$$' -v -timeout 12h -campaign=full -campaign-kills=$(KILLS) -campaign-time=$(KILLTIME)

fuzz: fuzz-$(ENGINE) ## each fuzz target for FUZZTIME, or FUZZRUNS executions with ENGINE=libfuzzer

fuzz-go:
	@for p in $(FUZZIN); do for f in $$($(GO) test $$p -list '^$(FUZZ)' | grep ^Fuzz); do \
		printf '%s %s: ' $$p $$f; out=$$($(GO) test $$p -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) 2>&1) || { echo "$$out"; exit 1; }; \
		echo "$$out" | grep -o 'execs: [0-9]*' | tail -1; done; done

fuzz-libfuzzer:
	@command -v clang >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get install -y clang; } || { echo "fuzz: libFuzzer comes with clang, which is not here; without ENGINE the engine of go test runs"; exit 1; }
	@for p in $(FUZZIN); do for f in $$($(GO) test $$p -list '^$(FUZZ)' | grep ^Fuzz); do \
		printf '%s %s: ' $$p $$f; GO=$(GO) .ci/libfuzzer $$p $$f $(FUZZRUNS) || exit 1; done; done

bench: ## the speed that is promised for the state: 100 MB opened, compacted, journalled, in memory
	$(GO) test ./statefile -run '^TestOneTag' -bench 'Open|Compact' -benchtime 5x -v | grep -v '^=== '
	$(GO) test ./statefile -run '^$$' -bench 'Journal|Lookup|All'
