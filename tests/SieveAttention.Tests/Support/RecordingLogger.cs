using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;

namespace SieveAttention.Tests.Support;

/// <summary>Keeps what is logged from a least level on.</summary>
internal sealed class RecordingLogger(LogLevel least = LogLevel.Trace) : ILogger, ILoggerFactory
{
    public ConcurrentQueue<(LogLevel Level, string Message)> Entries { get; } = new();

    /// <summary>Thrown by every call, where set.</summary>
    public Exception? Failure { get; init; }

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull
    {
        return null;
    }

    public bool IsEnabled(LogLevel logLevel) => logLevel >= least && logLevel != LogLevel.None;

    public void Log<TState>(
        LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        if (Failure is not null)
        {
            throw Failure;
        }

        Entries.Enqueue((logLevel, formatter(state, exception)));
    }

    public ILogger CreateLogger(string categoryName) => this;

    public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

    public void Dispose()
    {
    }
}
