"""Settings, tables, trees and automata that a policy is defined on."""
