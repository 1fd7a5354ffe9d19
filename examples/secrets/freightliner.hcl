# Secrets beside the mirror: made up, passed in, copied between stores, shared with
# another team, and the login of the registry itself.

# Age-encrypted files in secrets/, to be committed; nothing to set up. "secret init"
# also prints a recovery key.
secret_store "main" {}

# AWS Secrets Manager in one region, with the SDK's own credentials. The role that
# runs plan needs no right to read values when verify is "blind".
secret_store "aws" {
  kind   = "aws"
  region = "eu-west-1"
}

# GCP Secret Manager in one project, with application default credentials. With a
# fingerprint key a blind store still sees that a value of the configuration changed.
secret_store "gcp" {
  kind            = "gcp"
  project         = "acme-prod"
  verify          = "blind"
  fingerprint_key = var.fingerprint_key
}

# Set FREIGHTLINER_VAR_database_password and so on in the pipeline. Ephemeral values
# reach only secrets and auth blocks, never a plan, the state or a log.
variable "database_password" {
  ephemeral = true
}

variable "sentry_dsn" {
  ephemeral = true
}

variable "fingerprint_key" {
  description = "At least 16 bytes, such as 32 random characters; keep it outside of git."
  ephemeral   = true
}

# Generated once. Deleting is possible here, since the application makes new sessions.
secret "session" {
  store = secret_store.main
  name  = "app/session-key"

  generate {
    length       = 48
    rotate_after = "90d"
  }

  lifecycle {
    prevent_destroy = false
    on_remove       = "delete"
  }
}

# A JSON object, compared key by key: order and spacing are no drift.
secret "database" {
  store       = secret_store.aws
  name        = "prod/database"
  description = "Login of the application"
  labels      = { team = "payments" }
  replicas    = ["eu-central-1"]
  json        = { user = "app", password = var.database_password }
}

# A copy that follows its source: a new version there is a new version here.
secret "session_gcp" {
  store = secret_store.gcp
  name  = "session-key"

  copy {
    store = secret_store.main
    name  = "app/session-key"
  }
}

# Two keys of an object that another team owns; its other keys are left alone.
secret "shared" {
  store  = secret_store.aws
  name   = "prod/shared"
  manage = "keys"
  adopt  = true
  json   = { sentry_dsn = var.sentry_dsn, sentry_environment = "production" }
}

# The registry's login comes out of the store:
#
#     freightliner secret put -store main registry/robot -file login.json
#
# with {"username": "…", "password": "…"}, "user:password", or a token alone.
registry "prod" {
  host = "registry.example.com"

  auth {
    secret = { store = secret_store.main, name = "registry/robot" }
  }
}

tree "platform" {
  source      = "ghcr.io/acme"
  destination = "${registry.prod.host}/mirror/acme"
}
