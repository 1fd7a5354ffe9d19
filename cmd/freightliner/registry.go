package main

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"freightliner/providers/registry/embedded"
)

func (p *program) registryCommand() *cobra.Command {
	cmd := group(&cobra.Command{Use: "registry", Short: "A small registry, for trying things out"})
	var listen string
	serve := &cobra.Command{
		Use:   "serve DIR",
		Short: "Serve an OCI registry from a directory",
		Long: `Serves a small OCI registry from a directory until it is interrupted. It asks for
no credentials, so it listens on this machine only unless told otherwise. Write
plain_http = true in the registry block to use it.`,
		Args: exactly(1, "the directory to keep the registry in"),
		RunE: func(cmd *cobra.Command, args []string) error { return p.serve(cmd.Context(), args[0], listen) },
	}
	serve.Flags().StringVar(&listen, "listen", "127.0.0.1:5000", "listen on `ADDRESS`; port 0 takes a free one")
	cmd.AddCommand(serve)
	return cmd
}

func (p *program) serve(parent context.Context, dir, listen string) error {
	store, err := embedded.OpenDirectory(dir, p.clock.Now())
	if err != nil {
		return fmt.Errorf("open the registry in %s: %w", clean(dir), pathless(err, dir))
	}
	defer store.Close()
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return hinted(fmt.Errorf("listen on %s: %w", clean(listen), err), "Name another address with -listen; port 0 takes a free one.")
	}
	if address, ok := listener.Addr().(*net.TCPAddr); ok && !address.IP.IsLoopback() {
		fmt.Fprintln(p.stderr, "Warning: this registry asks for no credentials, and other machines can reach it at this address.")
	}
	ctx, end := p.cancelOnSignal(parent)
	defer end()
	// The address is the first word on the line, for scripts that read it.
	fmt.Fprintf(p.stdout, "%s serves %s (interrupt to stop)\n", listener.Addr(), clean(dir))
	return embedded.Serve(ctx, listener, embedded.New(store, embedded.Options{}))
}
