package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// process is a distribution registry on a folder.
type process struct {
	address string
	pid     int
	stop    func()
}

// startRegistry starts the registry on dir, at an address that it had before or
// at a free one of loopback, and waits until it answers. The settings are those
// of the official image, with deletes, without access log, and without the
// purging of old uploads; the secret is fixed, so that an upload outlives a
// restart.
func startRegistry(ctx context.Context, program, dir, address string) (*process, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	fixed := address != ""
	var err error
	for range 5 { // somebody may take the free port before the registry does
		if !fixed {
			if address, err = freeAddress(); err != nil {
				return nil, err
			}
		}
		var p *process
		if p, err = tryRegistry(ctx, program, dir, address); err == nil {
			return p, nil
		}
	}
	return nil, fmt.Errorf("start the registry on %s: %w", address, err)
}

func freeAddress() (string, error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer free.Close()
	return free.Addr().String(), nil
}

func tryRegistry(ctx context.Context, program, dir, address string) (*process, error) {
	config := marshal(map[string]any{ // JSON is YAML
		"version": "0.1",
		"log":     map[string]any{"level": "error", "accesslog": map[string]any{"disabled": true}},
		"storage": map[string]any{
			"filesystem":  map[string]any{"rootdirectory": dir},
			"cache":       map[string]any{"blobdescriptor": "inmemory"},
			"tag":         map[string]any{"concurrencylimit": 8},
			"delete":      map[string]any{"enabled": true},
			"maintenance": map[string]any{"uploadpurging": map[string]any{"enabled": false}},
		},
		"http": map[string]any{"addr": address, "secret": "not-a-secret-a-benchmark"},
	})
	file := dir + ".yml"
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, err
	}
	var output bytes.Buffer
	command := exec.CommandContext(ctx, program, "serve", file)
	command.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "REGISTRY_") || strings.HasPrefix(v, "OTEL_")
	}), "OTEL_TRACES_EXPORTER=none", "OTEL_METRICS_EXPORTER=none", "OTEL_LOGS_EXPORTER=none")
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		return nil, err
	}
	exited := make(chan struct{})
	go func() {
		command.Wait()
		close(exited)
	}()
	p := &process{address: address, pid: command.Process.Pid, stop: func() {
		command.Process.Kill()
		<-exited
		os.Remove(file)
	}}
	if err := answers(ctx, address, exited); err != nil {
		p.stop()
		return nil, fmt.Errorf("%w: %.500s", err, output.Bytes())
	}
	return p, nil
}

// answers waits until the registry answers over HTTP.
func answers(ctx context.Context, address string, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		response, err := http.Get("http://" + address + "/v2/")
		if err == nil {
			return response.Body.Close()
		}
		select {
		case <-exited:
			return errors.New("the process ended")
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
}

// cloneStorage copies a registry's storage. Blobs, which a registry never
// writes twice, are linked where the file system can; everything else is copied.
func cloneStorage(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rest)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		if strings.Contains(filepath.ToSlash(rest), "/v2/blobs/") && os.Link(path, target) == nil {
			return nil
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// warm reads a storage once, so that the first tool does not pay for the disk.
func warm(storage string) error {
	return filepath.WalkDir(storage, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(io.Discard, file)
		return err
	})
}
