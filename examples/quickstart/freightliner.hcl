registry "upstream" {
  host = "ghcr.io"
}

registry "prod" {
  host = "registry.example.com"
}

tree "platform" {
  source      = "${registry.upstream.host}/acme"
  destination = "${registry.prod.host}/mirror/acme"
}
