using System.Diagnostics;
using System.Globalization;

namespace SieveAttention.Cli.Output;

/// <summary>How progress is shown.</summary>
internal enum ProgressStyle
{
    /// <summary>Not at all.</summary>
    None,

    /// <summary>A line for each step, and every ten seconds within one.</summary>
    Lines,

    /// <summary>A bar that is drawn again and again on the last line of a terminal.</summary>
    Bar,
}

/// <summary>
/// Shows on stderr how far a command is: a known number of steps, each with a text and, where the step can tell, the part of it
/// that is done. Writes from a timer thread between steps, never after disposal.
/// </summary>
internal sealed class Progress : IDisposable
{
    private const int BarWidth = 30;

    private static readonly TimeSpan s_barPeriod = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan s_linePeriod = TimeSpan.FromSeconds(10);

    private readonly Lock _lock = new();
    private readonly TextWriter _writer;
    private readonly ProgressStyle _style;
    private readonly int _steps;
    private readonly Stopwatch _watch = Stopwatch.StartNew();
    private readonly Timer? _timer;
    private int _started;
    private double _part;
    private string _text = "";
    private bool _disposed;

    /// <summary>Starts before the first step.</summary>
    public Progress(TextWriter writer, ProgressStyle style, int steps)
    {
        _writer = writer;
        _style = style;
        _steps = Math.Max(1, steps);
        TimeSpan period = style == ProgressStyle.Bar ? s_barPeriod : s_linePeriod;
        _timer = style == ProgressStyle.None ? null : new Timer(_ => Show(), null, period, period);
    }

    /// <summary>Ends the step before and begins one.</summary>
    public void Step(string text)
    {
        lock (_lock)
        {
            _started++;
            _part = 0;
            _text = text;
        }
        Show();
    }

    /// <summary>Says which part of the current step is done, 0 to 1. The next periodic output shows it.</summary>
    public void Report(double part)
    {
        lock (_lock)
        {
            _part = part;
        }
    }

    /// <summary>Ends: a bar is wiped out.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            _timer?.Dispose();
            if (_style == ProgressStyle.Bar)
            {
                _writer.Write("\r\u001b[K");
                _writer.Flush();
            }
        }
    }

    private void Show()
    {
        lock (_lock)
        {
            if (_disposed || _style == ProgressStyle.None)
            {
                return;
            }
            string seconds = _watch.Elapsed.TotalSeconds.ToString("0.0", CultureInfo.InvariantCulture);
            // More steps than announced (a reference on rounded inputs) never draw past the end.
            int step = Math.Clamp(_started, 1, _steps);
            string part = _part > 0 ? $" {(int)(100 * _part)} %" : "";
            if (_style == ProgressStyle.Lines)
            {
                _writer.WriteLine($"[{step}/{_steps}] {_text}{part} ({seconds} s)");
                return;
            }
            int filled = Math.Clamp((int)(BarWidth * (step - 1 + _part) / _steps), 0, BarWidth);
            string bar = new string('#', filled).PadRight(BarWidth, '-');
            _writer.Write($"\r\u001b[K[{bar}] {step}/{_steps} {_text}{part} {seconds} s");
            _writer.Flush();
        }
    }
}
