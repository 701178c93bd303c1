// Command coredns is CoreDNS with only the plugins that a one-node cluster needs.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

// init orders the plugins: CoreDNS runs them in the order of dnsserver.Directives.
func init() {
	dnsserver.Directives = []string{"bind", "ready", "errors", "kubernetes", "forward"}
}

func main() {
	coremain.Run()
}
