# order_aggregator: every command a person types. "make help" lists them.

export PG_CONFIG ?= pg_config
PG_MAJOR := $(shell PG_CONFIG=$(PG_CONFIG) scripts/postgresql-major)
PACKAGES = postgresql-$(PG_MAJOR) postgresql-client-$(PG_MAJOR) postgresql-server-dev-$(PG_MAJOR) rabbitmq-server \
	librabbitmq-dev libpq-dev libjansson-dev libmicrohttpd-dev libgnutls28-dev libcurl4-openssl-dev zlib1g-dev libyajl-dev libcsv-dev libsystemd-dev libcmocka-dev \
	pkg-config gcc libc6-dev make procps curl openssl \
	nginx-light haproxy pgbouncer python3 python3-pytest python3-psycopg python3-pika python3-requests python3-jsonschema

prefix ?= /usr/local
BUILD = $(CURDIR)/build
PYTHON = /usr/bin/python3
RUN = .run
# a make below this one has as many jobs as there are processors, unless make was told
BELOW = -s --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$$(nproc))
# of the tree, in which tests run: see ubsan, coverage and mutate
COPIES = $(addprefix build/,ubsan coverage/tree mutants)
ifneq ($(words $(CURDIR)),1)
$(error make cannot build in a folder whose path has a blank: $(CURDIR))
endif

help:
	@echo 'make demo     see the whole path of an order on real servers, then stop them'
	@echo 'make check    all tests; ends with "N passed, N failed"'
	@echo 'make check-often N=20   the check N times on busy cores; says how often each test failed'
	@echo 'make attack   what a stranger would try, against the servers of make up'
	@echo 'make up       private PostgreSQL, RabbitMQ, bridge and vendor simulator; source .run/env'
	@echo 'make down     stop them'
	@echo 'make bench    all benchmarks (bench-placement bench-relay bench-loop bench-http bench-reads bench-pooler bench-sync);'
	@echo '              bench-quick: a look in two minutes; bench-plots: the plots of docs/performance.md'
	@echo 'make deb      Debian packages (make check-packages uses them in a bare Debian)'
	@echo 'make install  the extension and the programs into the system (DESTDIR, prefix)'
	@echo 'make soak     orders run while something breaks every few seconds, then all accounts are compared'
	@echo '              (SOAK_MINUTES=10 SOAK_SEED=...); soak-cluster: the same over a cluster'
	@echo 'make cluster  RabbitMQ (3 nodes), PostgreSQL (2, Patroni), etcd, 2 bridges; source .run/cluster/env;'
	@echo '              cluster-down stops them; cluster-demo: each kind of them is killed while orders run'
	@echo 'make check-long  the concurrent and fault tests of the check for minutes each'
	@echo 'make check-nth   every allocation, send, receive and query of the bridge, and every call of the extension, fails once'
	@echo 'make lint     format, clang-tidy, the order of the folders, docs made of the code'
	@echo 'also: build clean dist docs check-everywhere format format-check tidy asan tsan ubsan coverage mutate valgrind fuzz packages'

all: build

packages:
	@scripts/install-packages $(PACKAGES)

build:
	@mkdir -p $(BUILD)
	@$(MAKE) $(BELOW) -C extension all failing-calls
	@$(MAKE) $(BELOW) -C bridge BUILD=$(BUILD)

up: packages build
	@scripts/servers up $(RUN)
	@echo 'ready: source .run/env, then psql $$DATABASE_URL or curl $$HTTP_URL/products'

# also what a check, demo or benchmark left that was killed
down:
	@for run in $(RUN) $(addprefix $(RUN)/,check check2 check3 demo bench soak) $(wildcard $(addsuffix /.run/*,$(COPIES))); do \
		[ ! -d $$run ] || scripts/servers down $$run; done

demo: packages build
	@$(PYTHON) scripts/demo.py

check: packages build
	@$(PYTHON) scripts/check.py $(PARTS)

# the check again and again, both cores kept busy beside it: how often did each test fail?
N ?= 20
check-often: packages build
	@$(PYTHON) scripts/check.py --often $(N) $(PARTS)

# all that a stranger would try, against what "make up" has started
# (the simulator, which confirms whatever it is asked, stands aside meanwhile)
attack: up
	@scripts/servers stop $(RUN) vendor-sim
	@CHECK_RUN=$(CURDIR)/$(RUN) ATTACK=1 $(PYTHON) -m pytest -v -p no:cacheprovider bridge/test/test_attacks.py; \
		result=$$?; scripts/servers start $(RUN) vendor-sim; exit $$result

# what the check does in seconds, for minutes
check-long: packages build
	@MODEL_SECONDS=60 FOREIGN_SECONDS=120 SOAK_EVENTS=1000000 $(PYTHON) scripts/check.py daemon

# every allocation, send, receive and query of the bridge, and every call of the extension into the server, fails once
check-nth: packages build
	@NTH_STEP=1 CHECK_TESTS="bridge/test/test_nth_call.py bridge/test/test_failing_calls.py" $(PYTHON) scripts/check.py daemon

# over one of each
soak: packages build
	@$(PYTHON) bridge/chaos/soak.py

cluster-packages: packages
	@scripts/install-packages patroni python3-etcd etcd-server

cluster: cluster-packages build
	@scripts/cluster up $(RUN)/cluster
	@echo 'ready: source .run/cluster/env, then psql $$DATABASE_URL or curl $$HTTP_URL/products or $$HTTP_URL_2/products'

cluster-down:
	@[ ! -d $(RUN)/cluster ] || scripts/cluster down $(RUN)/cluster
	@[ ! -d $(RUN)/soak-cluster ] || scripts/cluster down $(RUN)/soak-cluster

# every kind of fault once
cluster-demo: cluster-packages build
	@$(PYTHON) bridge/chaos/soak.py --cluster --each

# by chance: SOAK_MINUTES, SOAK_SEED
soak-cluster: cluster-packages build
	@$(PYTHON) bridge/chaos/soak.py --cluster

bench: bench-placement bench-relay bench-loop bench-http bench-reads bench-pooler bench-sync

bench-placement: packages build
	@scripts/install-packages wrk
	@$(PYTHON) bench/placement.py

bench-relay: packages build
	@$(PYTHON) bench/relay.py

bench-loop: packages build
	@$(PYTHON) bench/loop.py

# the peer needs Node: an installed one if there is one, else Debian's
PEERS = bench/peers/node_modules/is-complete
$(PEERS): bench/peers/package-lock.json
	@scripts/install-packages wrk $$(command -v node >/dev/null || echo nodejs) $$(command -v npm >/dev/null || echo npm)
	@cd bench/peers && npm ci --silent --no-audit --no-fund
	@touch $@

bench-http: packages build $(PEERS)
	@$(PYTHON) bench/http_api.py

bench-pooler: packages build
	@$(PYTHON) bench/pooler.py

bench-reads: packages build $(PEERS)
	@$(PYTHON) bench/reads.py

# everything but the relay, the pooler and the feeds, shortly: for a first look
QUICK = env BENCH_FOLDER=quick BENCH_SECONDS=1 BENCH_ROUNDS=1 BENCH_GROWTH_ORDERS=0 GAP_ROUNDS=1 GAP_SECONDS=1 LOOP_SECONDS=5 LATENCY_ORDERS=200 $(PYTHON)
bench-quick: packages build $(PEERS)
	@$(QUICK) bench/placement.py
	@$(QUICK) bench/reads.py
	@$(QUICK) bench/http_api.py
	@$(QUICK) bench/loop.py

bench-plots: packages build
	@scripts/install-packages wrk
	@$(PYTHON) bench/plots.py

bench-sync: packages build
	@scripts/install-packages wrk
	@$(PYTHON) bench/sync.py

install:
	@command -v $(PG_CONFIG) >/dev/null || { echo "$(PG_CONFIG) is not installed: make packages installs all that building needs" >&2; exit 1; }
	@# not the prefix: PGXS follows it since PostgreSQL 18, to where the server does not look
	MAKEFLAGS='$(filter-out prefix=%,$(MAKEFLAGS))' $(MAKE) -C extension install DESTDIR=$(abspath $(DESTDIR))
	$(MAKE) -C bridge BUILD=$(BUILD)
	install -d $(DESTDIR)$(prefix)/bin $(DESTDIR)$(prefix)/share/man/man1
	install -m 755 $(BUILD)/order-bridge $(BUILD)/vendor-sim $(DESTDIR)$(prefix)/bin
	install -m 644 docs/order-bridge.1 docs/vendor-sim.1 $(DESTDIR)$(prefix)/share/man/man1

C_FILES = $$(git ls-files "*.[ch]")

format:
	@scripts/install-packages clang-format
	clang-format -i $(C_FILES)

format-check:
	@scripts/install-packages clang-format
	@clang-format --dry-run -Werror $(C_FILES)

# some files at a time, on each core
TIDY = xargs -P $$(nproc) -n 6 sh -c 'clang-tidy --quiet $(1) "$$@" -- -std=gnu11 $(2) 2>/dev/null' tidy

tidy: packages build
	@scripts/install-packages clang-tidy
	@git ls-files "bridge/src/*.c" "bridge/sim/*.c" | $(call TIDY,,-D_GNU_SOURCE -iquote bridge/src -iquote extension/src \
		-iquote bridge/sim $$(pkg-config --cflags libpq jansson))
	@# the server's own macros multiply int
	@git ls-files "extension/src/*.c" | $(call TIDY,--checks=-bugprone-implicit-widening-of-multiplication-result,-Iextension/src \
		-I$$($(PG_CONFIG) --includedir-server))

# the code by itself, before a commit; .ci/run looks at all of it, too
lint: format-check tidy
	@$(PYTHON) scripts/check.py lint

docs:
	@$(PYTHON) scripts/docs.py

# the API's description against its standard, by two public linters from the npm registry
lint-openapi:
	@scripts/install-packages $$(command -v node >/dev/null || echo nodejs) $$(command -v npm >/dev/null || echo npm)
	@mkdir -p $(BUILD)/openapi && cd $(BUILD)/openapi && npm install --silent --no-audit --no-fund @redocly/cli @stoplight/spectral-cli
	@$(BUILD)/openapi/node_modules/.bin/redocly lint bridge/openapi.json
	@echo 'extends: ["spectral:oas"]' > $(BUILD)/openapi/spectral.yaml
	@$(BUILD)/openapi/node_modules/.bin/spectral lint --fail-severity=warn -r $(BUILD)/openapi/spectral.yaml bridge/openapi.json

# Debian packages of this suite's PostgreSQL versions, in build/deb, looked at by lintian
deb: packages
	@scripts/build-deb

# installed, started, used and purged in a bare Debian that is booted in a container; root
check-packages: deb
	@scripts/check-packages

# the whole check in Debian 12, 13 and 14, with their PostgreSQL and RabbitMQ; root; an hour
check-everywhere:
	@scripts/check-everywhere $(SUITES)

# pg_upgrade from 15 to 17 with orders in flight; root, and packages of both: make deb, check-everywhere trixie
check-pg-upgrade: deb
	@scripts/check-pg-upgrade

# the committed tree, as PGXN takes it
dist:
	@mkdir -p $(BUILD)
	git archive --prefix=order_aggregator-$(VERSION)/ -o $(BUILD)/order_aggregator-$(VERSION).zip HEAD

# the unit tests and the daemon under AddressSanitizer and UBSan
asan:
	@$(MAKE) $(BELOW) -C extension all failing-calls
	@$(MAKE) $(BELOW) -C bridge BUILD=$(BUILD)/asan SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer' all unit
	@BRIDGE_BUILD=$(BUILD)/asan $(PYTHON) scripts/check.py unit daemon

# the bridge under ThreadSanitizer: a race ends it, and a test fails
tsan:
	@$(MAKE) $(BELOW) -C extension all failing-calls
	@$(MAKE) $(BELOW) -C bridge BUILD=$(BUILD)/tsan SANITIZE='-fsanitize=thread -fno-omit-frame-pointer' all unit
	@TSAN_OPTIONS='halt_on_error=1 abort_on_error=1' BRIDGE_BUILD=$(BUILD)/tsan $(PYTHON) scripts/check.py daemon

# the extension's tests under UBSan, in a copy of the committed tree: what is undefined ends the server, and a test fails
ubsan: packages
	@scripts/forget $(BUILD)/ubsan && git clone -q . $(BUILD)/ubsan
	@$(MAKE) $(BELOW) -C $(BUILD)/ubsan build COPT='-fsanitize=undefined -fno-sanitize-recover=undefined'
	@cd $(BUILD)/ubsan && $(PYTHON) scripts/check.py regress upgraded isolation

# lines and branches that the check runs, in build/coverage; a quarter of an hour
coverage: packages
	@scripts/coverage

# small mistakes made on purpose: which ones do the tests see? MUTANTS (40), about a minute each
mutate: packages
	@scripts/mutate

valgrind: build
	@scripts/install-packages valgrind
	@$(MAKE) $(BELOW) -C bridge BUILD=$(BUILD) unit-programs
	@for program in $(BUILD)/unit/*_test; do valgrind -q --error-exitcode=1 --leak-check=full --suppressions=bridge/test/valgrind.supp $$program || exit 1; done

# libFuzzer on what parses a stranger's text; FUZZ_SECONDS (300) each. New inputs are kept in build/fuzz/
fuzz: build
	@scripts/install-packages clang libclang-rt-14-dev
	@$(MAKE) $(BELOW) -C bridge BUILD=$(BUILD) libfuzzer-programs
	@for target in order feed; do mkdir -p $(BUILD)/fuzz/$${target}_corpus && (cd $(BUILD)/fuzz && \
	  ./$${target}_libfuzzer -max_total_time=$${FUZZ_SECONDS:-300} $${target}_corpus $(CURDIR)/bridge/fuzz/$${target}_corpus) || exit 1; done

clean:
	$(MAKE) -C extension clean
	$(MAKE) -C bridge BUILD=$(BUILD) clean
	scripts/forget $(COPIES)
	# the bootstrapped suites stay: rm -r build/suites
	[ ! -d build ] || find build -mindepth 1 -maxdepth 1 -not -name suites -exec rm -rf {} +

VERSION = $$(sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)

.PHONY: all bench-pooler tsan ubsan check-long check-nth cluster cluster-demo cluster-down cluster-packages soak-cluster coverage mutate deb check-packages check-pg-upgrade check-everywhere dist help packages build up down demo check check-often attack bench bench-placement bench-relay bench-loop bench-http bench-reads bench-sync bench-quick bench-plots soak install format format-check tidy lint lint-openapi docs asan valgrind fuzz clean
