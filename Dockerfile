# Two images of one build: "database", PostgreSQL with the extension, and "bridge", order-bridge.
#	docker build --target database -t order-aggregator-database .
#	docker build --target bridge -t order-bridge .
# Not built by the project's own checks, which have no registry of images: what is checked is that the packages it
# names are those of the Makefile (scripts/lint.py). The packages it makes are tested by make check-packages.

FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
	build-essential debhelper dpkg-dev fakeroot lintian pkg-config postgresql-server-dev-all \
	libpq-dev librabbitmq-dev libjansson-dev libmicrohttpd-dev libgnutls28-dev libcurl4-openssl-dev \
	zlib1g-dev libyajl-dev libcsv-dev libsystemd-dev libcmocka-dev git ca-certificates
COPY . /src
RUN git config --global --add safe.directory /src && make -C /src deb

FROM debian:bookworm-slim AS database
COPY --from=build /src/build/deb/postgresql-15-order-aggregator_*.deb /tmp/
RUN apt-get update && apt-get install -y --no-install-recommends postgresql-15 /tmp/*.deb \
	&& rm -rf /tmp/*.deb /var/lib/apt/lists/* \
	&& install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data
USER postgres
ENV PATH=/usr/lib/postgresql/15/bin:$PATH PGDATA=/var/lib/postgresql/data/cluster
VOLUME /var/lib/postgresql/data
COPY --from=build /src/docker/database /usr/local/bin/database
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/bin/database"]

FROM debian:bookworm-slim AS bridge
COPY --from=build /src/build/deb/order-bridge_*.deb /tmp/
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates /tmp/*.deb \
	&& rm -rf /tmp/*.deb /var/lib/apt/lists/*
USER nobody
EXPOSE 3000
ENTRYPOINT ["order-bridge"]
CMD ["run"]
