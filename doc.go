// Package cordum is the root of a serverless control plane for the jobs of AI agents: every job is checked against a safety policy before
// it runs, waits for a human where it must, goes to the right pool of workers, and leaves a trail. Start with README.md.
package cordum
