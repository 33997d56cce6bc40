"""What Schemathesis has to be told about bodies."""

import schemathesis

schemathesis.serializer.alias("application/jsonlines", "text/plain")
