#!/bin/bash
# Exits 0 when the server of this container answers GET /health with 200. Bash alone: the image has no HTTP client. With
# TLS, of which bash knows nothing, that the port accepts connections has to do. Follows TRIREME_HTTP_PORT and TRIREME_TLS_CERT.
exec 3<>"/dev/tcp/127.0.0.1/${TRIREME_HTTP_PORT:-8000}" || exit 1
[ -z "${TRIREME_TLS_CERT:-}" ] || exit 0
printf 'GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r -t 4 _ code _ <&3 && [ "$code" = 200 ]
