# A platform team's mirror: versions by constraint, two platforms, pruning of
# what left the source, and one image of its own.

freightliner {
  required_version = ">= 0.1.0"

  state {
    path = "mirror.state"
  }

  defaults {
    parallelism = 32
    retry       = 3
    max_deletes = "5%"
  }
}

variable "destination" {
  description = "The registry that clusters pull from."
  default     = "registry.example.com"
}

variable "robot_token" {
  description = "Password of the robot account; set FREIGHTLINER_VAR_robot_token in the pipeline."
  ephemeral   = true
}

locals {
  teams = toset(["payments", "search"])
}

registry "upstream" {
  host        = "quay.io"
  concurrency = 8
}

registry "prod" {
  host = var.destination

  auth {
    username = "robot"
    password = var.robot_token
  }
}

tree "team" {
  for_each    = local.teams
  source      = "${registry.upstream.host}/acme-${each.key}"
  destination = "${registry.prod.host}/mirror/${each.key}"

  repositories {
    exclude = ["**/sandbox-*"]
  }

  tags {
    include = ["v*"]
    semver  = ">= 1.20.0"
    newest  = 10
  }

  platforms = ["linux/amd64", "linux/arm64"]
  prune     = "managed"

  lifecycle {
    on_remove = "delete"
  }
}

image "nginx" {
  source      = "docker.io/library/nginx:1.27"
  destination = "${registry.prod.host}/mirror/nginx:1.27"

  lifecycle {
    prevent_destroy = true
  }
}
