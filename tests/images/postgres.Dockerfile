# A server from binaries: `installation` is a directory with bin/, lib/ and share/ and what they need beside them.
ARG BASE
FROM ${BASE}
ARG BIN
COPY installation /opt/postgres
COPY postgres-entrypoint.sh /usr/local/bin/
# the user may be there: Debian's package has made it
RUN (getent passwd postgres || useradd --system --home-dir /var/lib/postgresql --no-create-home postgres) \
 && mkdir -p /var/lib/postgresql/data /run/postgresql /tmp \
 && chown -R postgres /var/lib/postgresql /run/postgresql && chmod 0700 /var/lib/postgresql/data
ENV PATH=${BIN}:/usr/local/bin:/usr/bin:/bin
# as in the official image: what is written all the time stays out of the layers, whose file system may be slow
VOLUME /var/lib/postgresql/data
USER postgres
EXPOSE 5432
# fast, as in the official image
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-entrypoint.sh"]
