// Package conformance runs containerd's own snapshotter suite against a snapshotter that is
// served over gRPC on a unix socket.
//
// The environment variable THINFS_SNAPSHOTTER holds the command as a JSON list; the test
// appends `--root DIR --address SOCKET` and starts one server for each case.
package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"github.com/containerd/containerd/snapshots/testsuite"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
)

// client is a snapshotter whose Close also closes the connection.
type client struct {
	snapshots.Snapshotter
	connection io.Closer
	closed     bool
}

// Close may be called twice: the suite has a case for it.
func (c *client) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	return c.connection.Close()
}

// Cleanup makes the client a snapshots.Cleaner, as containerd's own proxy is.
func (c *client) Cleanup(ctx context.Context) error {
	return c.Snapshotter.(snapshots.Cleaner).Cleanup(ctx)
}

func command(t *testing.T) []string {
	var words []string
	if err := json.Unmarshal([]byte(os.Getenv("THINFS_SNAPSHOTTER")), &words); err != nil || len(words) == 0 {
		t.Fatalf("THINFS_SNAPSHOTTER must hold a command as a JSON list of strings: %v", err)
	}
	return words
}

func listening(socket string) bool {
	connection, err := net.Dial("unix", socket)
	if err == nil {
		connection.Close()
	}
	return err == nil
}

// start runs one server and waits until it listens; the function it gives stops it.
func start(words []string, root, socket string) (func() error, error) {
	server := exec.Command(words[0], append(words[1:len(words):len(words)], "--root", root, "--address", socket)...)
	server.Stdout, server.Stderr = os.Stderr, os.Stderr
	// A test binary that is killed must not leave servers behind.
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	deadline := time.After(startTimeout)
	for !listening(socket) {
		select {
		case err := <-ended:
			return nil, fmt.Errorf("the snapshotter ended before it listened: %w", err)
		case <-deadline:
			server.Process.Kill()
			return nil, fmt.Errorf("the snapshotter does not listen after %s", startTimeout)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return func() error { return stop(server, ended) }, nil
}

func stop(server *exec.Cmd, ended <-chan error) error {
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(stopTimeout):
		server.Process.Kill()
		return fmt.Errorf("the snapshotter still runs %s after SIGTERM", stopTimeout)
	}
}

func TestConformance(t *testing.T) {
	words := command(t)
	testsuite.SnapshotterSuite(t, "thin", func(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
		socket := filepath.Join(filepath.Dir(root), "snapshotter.sock")
		stop, err := start(words, root, socket)
		if err != nil {
			return nil, nil, err
		}
		connection, err := grpc.Dial("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			stop()
			return nil, nil, err
		}
		c := &client{Snapshotter: proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(connection), "thin"), connection: connection}
		return c, func() error {
			c.Close()
			return stop()
		}, nil
	})
}
