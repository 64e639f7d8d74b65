#!/bin/sh
# certificates.sh HOST...        a certificate for the broker under these names and addresses, signed by a CA of its own,
#                                which is made at the first call; call it again before the certificate's year is over
# certificates.sh --client NAME  a client certificate for a watch (NAME is its device name) or for har-stream
# What clients need is ca.crt: har-stream --tls-ca ca.crt. Whoever has ca.key can pass for the broker.
set -eu

folder=${CERTIFICATES:-/mosquitto/certificates}
# User id of the broker's container.
broker_uid=${BROKER_UID:-1883}
ca_days=3650
days=365

usage() {
    echo "expected certificates.sh HOST..., or certificates.sh --client NAME" >&2
    exit 2
}

sign() { # sign FILE COMMON_NAME EXTENSIONS: FILE.key and FILE.crt
    (umask 077 && openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key.new")
    openssl req -new -key "$1.key.new" -subj "/CN=$2" -out "$1.csr"
    printf '%s\n' "basicConstraints=critical,CA:FALSE" "subjectKeyIdentifier=hash" "authorityKeyIdentifier=keyid" "$3" \
        >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" -days "$days" -sha256 \
        -set_serial "0x$(openssl rand -hex 16)" -extfile "$1.ext" -out "$1.crt.new" 2>/dev/null
    rm "$1.csr" "$1.ext"
    mv "$1.key.new" "$1.key"
    mv "$1.crt.new" "$1.crt"
}

[ $# -gt 0 ] || usage
case $1 in
--client)
    [ $# -eq 2 ] || usage
    case $2 in
    *[!A-Za-z0-9._@-]* | [!A-Za-z0-9]* | "")
        echo "client name $2: expected A-Z a-z 0-9 . _ @ -, a letter or digit first" >&2
        exit 2
        ;;
    esac
    ;;
*)
    for host in "$@"; do
        case $host in
        *[!A-Za-z0-9.:-]* | [!A-Za-z0-9:]* | "")
            echo "host $host: expected a name or an address" >&2
            exit 2
            ;;
        esac
    done
    ;;
esac

mkdir -p "$folder"
if [ ! -s "$folder/ca.key" ]; then
    (umask 077 && openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$folder/ca.key")
    openssl req -x509 -new -key "$folder/ca.key" -days "$ca_days" -subj "/CN=har-stream CA" -sha256 \
        -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$folder/ca.crt"
fi

if [ "$1" = --client ]; then
    # Named as no server's file can be.
    sign "$folder/client-$2" "$2" "extendedKeyUsage=clientAuth"
    echo "$folder/client-$2.crt $folder/client-$2.key"
    exit 0
fi

names=
for host in "$@"; do
    case $host in
    *:*) kind=IP ;;
    *[!0-9.]*) kind=DNS ;;
    *) kind=IP ;;
    esac
    names="$names,$kind:$host"
done
sign "$folder/server" "$1" "extendedKeyUsage=serverAuth
subjectAltName=${names#,}"
# The broker reads its own key; the CA's stays with whoever issues certificates.
if [ "$(id -u)" -eq 0 ]; then chown "$broker_uid:$broker_uid" "$folder/server.key"; fi
echo "$folder/server.crt for $*"
