#!/usr/bin/env bash
# Installs LocalStack 4.9.2 (the last open line that runs on Python 3.11) with DynamoDB Local 3.1.0 behind it, without Docker and
# without a token, and starts it on a loopback port. Usage: host.sh DIR [PORT]; it stays in the foreground.
# Needs python3 (3.10-3.12) with venv, a JDK (17+) and mvn. About 2 minutes and 700 MB the first time, seconds after that.
set -euo pipefail
dir=$(mkdir -p "$1" && cd "$1" && pwd); port=${2:-4566}
venv=$dir/venv fs=$dir/fs lib=$dir/fs/var/lib/localstack/lib

if [ ! -x "$venv/bin/localstack" ] && [ ! -f "$venv/.done" ]; then
  python3 -m venv "$venv"
  # the pins keep versions apart that break each other; never add the package `localstack` itself (it pulls localstack-ext)
  "$venv/bin/pip" install -q 'localstack-core[runtime]==4.9.2' 'cbor2<6' 'pyopenssl<26' 'cryptography>=45.0.7,<47' 'psutil<7.1' service_identity
  touch "$venv/.done"
fi

ddb=$lib/dynamodb-local/2
if [ ! -f "$ddb/ddb-local-loader-0.1.jar" ]; then # the last file that is made here
  mkdir -p "$ddb/DynamoDBLocal_lib" "$dir/build"
  cat > "$dir/build/pom.xml" <<'POM'
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>dynamodb-local</artifactId><version>1</version>
<dependencies><dependency><groupId>software.amazon.dynamodb</groupId><artifactId>DynamoDBLocal</artifactId><version>3.1.0</version></dependency></dependencies></project>
POM
  (cd "$dir/build" && mvn -q -B dependency:copy-dependencies -DoutputDirectory="$ddb/DynamoDBLocal_lib")
  # LocalStack starts `java -javaagent:ddb-local-loader-0.1.jar -jar DynamoDBLocal.jar`: give it a manifest-only launcher that names
  # the real main class and libraries, and an agent that does nothing
  { echo 'Main-Class: software.amazon.dynamodb.services.local.main.ServerRunner'
    printf 'Class-Path:'; for j in "$ddb"/DynamoDBLocal_lib/*.jar; do printf ' DynamoDBLocal_lib/%s' "$(basename "$j")"; done; echo
  } | awk '{ line=$0; while (length(line) > 70) { print substr(line,1,70); line=" " substr(line,71) } print line }' > "$dir/build/manifest"
  (cd "$dir/build" && jar -cfm "$ddb/DynamoDBLocal.jar" manifest)
  echo 'public class NoopAgent { public static void premain(String a, java.lang.instrument.Instrumentation i) {} }' > "$dir/build/NoopAgent.java"
  (cd "$dir/build" && javac NoopAgent.java && echo 'Premain-Class: NoopAgent' > agent && jar -cfm "$ddb/ddb-local-loader-0.1.jar" agent NoopAgent.class)
fi
jdk=$(dirname "$(dirname "$(readlink -f "$(command -v java)")")")
mkdir -p "$lib/java"; ln -sfn "$jdk" "$lib/java/21"

export GATEWAY_LISTEN=127.0.0.1:$port FILESYSTEM_ROOT=$fs DYNAMODB_IN_MEMORY=1 DYNAMODB_SHARE_DB=1 \
  PROVIDER_OVERRIDE_DYNAMODB=v2 PROVIDER_OVERRIDE_DYNAMODBSTREAMS=v2 SKIP_SSL_CERT_DOWNLOAD=1 DISABLE_EVENTS=1 OVERRIDE_IN_DOCKER=0
exec "$venv/bin/python" -m localstack.runtime.main
