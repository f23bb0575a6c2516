namespace SieveAttention.Cli.CommandLine;

/// <summary>The command line asks for something that the tool does not do; the message is one line for the user.</summary>
internal sealed class UsageException(string message) : Exception(message);
