#!/bin/sh
# accounts.sh          creates the account of har-stream, once, and its password file
# accounts.sh NAME     creates or renews the account of a watch (NAME is its device name) and prints the password
# accounts.sh --role simulator|reader|home-assistant
#                      the same for an account that is no watch's: it may publish as any watch, read all events, or
#                      what it takes to show watches in Home Assistant
# The broker reads the accounts when it starts and on SIGHUP.
set -eu

passwd=${ACCOUNTS_FILE:-/mosquitto/accounts/passwd}
secret=${SECRET_FILE:-/har-stream-secret/password}
# User ids of the broker's and har-stream's containers.
broker_uid=${BROKER_UID:-1883}
service_uid=${SERVICE_UID:-10001}

new_password() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }

set_password() { # set_password NAME PASSWORD: written beside and moved over, so the broker never reads half a file
    rm -f "$passwd.new"
    if [ -e "$passwd" ]; then cp "$passwd" "$passwd.new"; else (umask 077 && : >"$passwd.new"); fi
    mosquitto_passwd -b "$passwd.new" "$1" "$2"
    chmod 0400 "$passwd.new"
    chown "$broker_uid:$broker_uid" "$passwd.new"
    mv -f "$passwd.new" "$passwd"
}

if [ $# -eq 0 ]; then
    if [ -s "$passwd" ] && [ -s "$secret" ]; then
        echo "accounts exist"
        exit 0
    fi
    password=$(new_password)
    set_password har-stream "$password"
    (umask 077 && printf '%s\n' "$password" >"$secret")
    chown "$service_uid:$service_uid" "$secret"
    chmod 0400 "$secret"
    echo "created the account har-stream"
    exit 0
fi

if [ "$1" = --role ]; then
    case ${2-} in
    simulator | reader | home-assistant) shift ;;
    *)
        echo "role ${2-}: expected simulator, reader or home-assistant" >&2
        exit 2
        ;;
    esac
else
    case $1 in
    har-stream | simulator | reader | home-assistant)
        echo "device name $1: that account is no watch's; expected another name, or --role" >&2
        exit 2
        ;;
    esac
fi
case $1 in
*[!A-Za-z0-9._:@-]* | [!A-Za-z0-9]* | "")
    echo "device name $1: expected A-Z a-z 0-9 . _ : @ -, a letter or digit first" >&2
    exit 2
    ;;
*:*)
    echo "device name $1: a colon ends a name in Mosquitto's password file" >&2
    exit 2
    ;;
esac
password=$(new_password)
set_password "$1" "$password"
echo "$password"
