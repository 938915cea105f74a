# Runs a PostgreSQL server in a new directory until standard input ends, and leaves nothing behind. Arguments: the directory of
# PostgreSQL's programs, then those of the server. Prints the directory once the server answers. Then each line on standard input is
# carried out and answered with a line: kill (as a crash would), start, or promote (a standby). PGPORT is the server's port, also in the name
# of its socket. With STANDBY_OF, the directory of another server on that port, it is a standby of that one, which knows it as `standby`.
bin=$1
shift
server=
directory=$(mktemp -d "${TMPDIR:-/tmp}/harbormaster-postgres-XXXXXX") || exit 1

finish() {
    trap - EXIT
    if [ -n "$server" ]; then
        kill -QUIT "$server"
        wait "$server"
    fi
    rm -rf "$directory"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM
# Whoever reads the answers may be gone: that is no reason to end without cleaning up.
trap '' PIPE

make() {
    if [ -n "$STANDBY_OF" ]; then
        "$bin/pg_basebackup" -D "$directory/data" -R -X stream -c fast --no-sync \
            -d "host=$STANDBY_OF user=postgres application_name=standby"
    else
        # Another collation than that of bytes, so that keys have to bring their own.
        "$bin/initdb" -D "$directory/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --locale-provider=icu \
            --icu-locale=en-US --wal-segsize=1 --no-sync
    fi
}

start() {
    # After a crash the processes of the server before may be there for a moment, and keep the new one from starting.
    tries=0
    until "$bin/pg_isready" -q -h "$directory"; do
        tries=$((tries + 1))
        if [ "$tries" -gt 600 ]; then
            cat "$directory/log" >&3
            exit 1
        fi
        if [ -z "$server" ] || ! kill -0 "$server"; then
            "$bin/postgres" -D "$directory/data" -k "$directory" "$@" >>"$directory/log" 2>&1 3>&- &
            server=$!
        fi
        sleep 0.05
    done
}

exec 3>&2 2>/dev/null
umask 077
if [ -n "$SERVER_CERTIFICATE" ]; then
    printf '%s' "$SERVER_CERTIFICATE" >"$directory/certificate.pem"
    printf '%s' "$SERVER_KEY" >"$directory/key.pem"
    set -- "$@" -c ssl=on -c "ssl_cert_file=$directory/certificate.pem" -c "ssl_key_file=$directory/key.pem"
fi
make >"$directory/log" 2>&1 || {
    cat "$directory/log" >&3
    exit 1
}
start "$@"
exec 3>&-
echo "$directory"
while read -r order; do
    case $order in
    kill)
        # Its children would go on for a moment, and answer what they were asked.
        kill -STOP "$server"
        kill -KILL $(cat "/proc/$server/task/$server/children") "$server"
        wait "$server"
        server=
        ;;
    start)
        start "$@"
        ;;
    promote)
        "$bin/pg_ctl" promote -s -D "$directory/data" || order="not promoted"
        ;;
    esac
    echo "$order"
done
