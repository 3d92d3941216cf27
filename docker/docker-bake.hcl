# Images for several architectures, from the repository's root:
#   docker buildx bake -f docker/docker-bake.hcl         # for CPUs: amd64 and arm64
#   docker buildx bake -f docker/docker-bake.hcl cuda    # for NVIDIA GPUs: amd64
# VERSION, REVISION and CREATED come from the environment, IMAGE is the name to push to. Several
# architectures need a builder and a registry that take them: add --push.

variable "IMAGE" { default = "proxima" }
variable "VERSION" { default = "0.1.0" }
variable "REVISION" { default = "unknown" }
variable "CREATED" { default = "unknown" }

group "default" {
  targets = ["cpu"]
}

target "common" {
  context    = "."
  dockerfile = "docker/Dockerfile"
  args = {
    VERSION  = VERSION
    REVISION = REVISION
    CREATED  = CREATED
  }
}

target "cpu" {
  inherits  = ["common"]
  target    = "cpu"
  platforms = ["linux/amd64", "linux/arm64"]
  tags      = ["${IMAGE}:${VERSION}", "${IMAGE}:latest"]
}

target "cuda" {
  inherits  = ["common"]
  target    = "cuda"
  platforms = ["linux/amd64"]
  tags      = ["${IMAGE}:${VERSION}-cuda"]
}
