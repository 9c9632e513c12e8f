// Package workflow is what a workflow is: its definition as it looks on the wire, what is wrong with one, how a posted one meets the stored
// one, and what the inputs of its steps mean. Nothing in it waits, sends, or reads a clock.
package workflow
