#!/bin/sh
# Makes the key stores beside it, with OpenSSL 3 and the keytool of Java 17. Their password is "changeit".
set -eu
cd "$(dirname "$0")"
rm -f ./*.p12 ./*.jks ./*.pem ./*.der
days=36500
name='subjectAltName=DNS:localhost,IP:127.0.0.1'

# An authority, and a server and a client of it. EC keys.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout ca.key -out ca.pem \
    -days $days -subj '/CN=authority' -addext basicConstraints=critical,CA:TRUE
echo "$name" >extensions.crt
echo "basicConstraints=CA:FALSE" >>extensions.crt
for who in server client; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout $who.key -subj "/CN=$who" |
        openssl x509 -req -CA ca.pem -CAkey ca.key -days $days -out $who.crt -extfile extensions.crt
done
cat client.crt client.key >client.pem
cat server.crt ca.pem server.key >server.pem

# Key store of OpenSSL 3 (PBES2 with AES), of OpenSSL 1 (RC2 and 3DES), and of certificates only.
openssl pkcs12 -export -inkey server.key -in server.crt -certfile ca.pem -out openssl.p12 \
    -passout pass:changeit
openssl pkcs12 -export -legacy -inkey server.key -in server.crt -certfile ca.pem -out legacy.p12 \
    -passout pass:changeit
openssl pkcs12 -export -nokeys -in ca.pem -out no-key.p12 -passout pass:changeit

# The key store of keytool: an RSA key, and the authority whose clients are trusted; its EC keys; and
# the format of Java 8.
keytool -genkeypair -keystore keytool.p12 -storepass changeit -alias server -keyalg RSA -keysize 2048 \
    -validity $days -dname CN=localhost -ext SAN=dns:localhost,ip:127.0.0.1
keytool -importcert -noprompt -keystore keytool.p12 -storepass changeit -alias authority -file ca.pem
keytool -exportcert -rfc -keystore keytool.p12 -storepass changeit -alias server >keytool.pem
keytool -genkeypair -keystore keytool-ec.p12 -storepass changeit -alias server -keyalg EC \
    -groupname secp256r1 -validity $days -dname CN=localhost -ext SAN=dns:localhost,ip:127.0.0.1
keytool -exportcert -rfc -keystore keytool-ec.p12 -storepass changeit -alias server >keytool-ec.pem
keytool -genkeypair -keystore old.jks -storetype jks -storepass changeit -alias server -keyalg EC \
    -groupname secp256r1 -validity $days -dname CN=localhost 2>/dev/null
rm -f ./*.key ./*.crt
