// Command stargz-grpc serves stargz-snapshotter to containerd, for benchmarks that compare with it.
//
// The project's own command lives in a Go module that the module proxy does not have, because it
// was never tagged; this one starts the same service, from the released library, with the
// project's defaults.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"github.com/containerd/stargz-snapshotter/service"
	"github.com/containerd/stargz-snapshotter/service/keychain/dockerconfig"
	"github.com/pelletier/go-toml/v2"
	"google.golang.org/grpc"
)

// version is that of the library, set when this command is built.
var version = "unknown"

func main() {
	address := flag.String("address", "", "unix socket for containerd")
	root := flag.String("root", "", "directory for snapshots and for what is cached")
	config := flag.String("config", "", "the project's config.toml (optional)")
	showVersion := flag.Bool("version", false, "print the version of the library")
	flag.Parse()
	if *showVersion {
		fmt.Println("stargz-grpc", version)
		return
	}
	if err := serve(*address, *root, *config); err != nil {
		fmt.Fprintln(os.Stderr, "stargz-grpc:", err)
		os.Exit(1)
	}
}

func serve(address, root, file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	config, err := read(file)
	if err != nil {
		return err
	}
	snapshotter, err := service.NewStargzSnapshotterService(ctx, root, config,
		service.WithCredsFuncs(dockerconfig.NewDockerconfigKeychain(ctx)))
	if err != nil {
		return err
	}
	defer snapshotter.Close() // unmounts all layers
	if err := os.RemoveAll(address); err != nil {
		return err
	}
	listener, err := net.Listen("unix", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	go func() {
		<-ctx.Done()
		server.Stop()
	}()
	return server.Serve(listener)
}

func read(file string) (*service.Config, error) {
	config := &service.Config{}
	if file == "" {
		return config, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return config, toml.Unmarshal(text, config)
}
