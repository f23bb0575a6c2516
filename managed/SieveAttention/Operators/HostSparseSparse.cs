using System.Numerics;

namespace SieveAttention;

/// <summary>
/// Sparse sparse attention on the devices that compute in host memory: they compute the streams, the epilogue and the alignment follow
/// here. Arguments have been checked; tensors become arrays of the device's precision, results are rounded once to their tensor's type.
/// </summary>
internal static class HostSparseSparse
{
    internal static void Forward(
        AttentionDevice device,
        in AttentionProblem problem,
        SparseSparseOptions options,
        SparseSparseInputs inputs,
        SparseSparseResult into)
    {
        if (device.Kind == AttentionDeviceKind.Cpu)
        {
            Engine<float>.Cpu.Forward(problem, options, inputs, into);
        }
        else
        {
            Engine<double>.Reference.Forward(problem, options, inputs, into);
        }
    }

    internal static SparseSparseGradients Backward(
        AttentionDevice device,
        in AttentionProblem problem,
        SparseSparseOptions options,
        SparseSparseInputs inputs,
        AttentionTensor? sparseGradient,
        AttentionTensor? fullGradient)
    {
        return device.Kind == AttentionDeviceKind.Cpu
            ? Engine<float>.Cpu.Backward(problem, options, inputs, sparseGradient, fullGradient)
            : Engine<double>.Reference.Backward(problem, options, inputs, sparseGradient, fullGradient);
    }

    internal static SparseSparseStatistics Statistics(
        AttentionDevice device, in AttentionProblem problem, SparseSparseOptions options, SparseSparseInputs inputs)
    {
        return device.Kind == AttentionDeviceKind.Cpu
            ? Engine<float>.Cpu.Statistics(problem, options, inputs)
            : Engine<double>.Reference.Statistics(problem, options, inputs);
    }

    /// <summary>The functions of one device.</summary>
    private sealed class Engine<T>
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        internal static readonly Engine<double> Reference = new()
        {
            Attend = SieveAttention.Reference.SparseSparse.Forward,
            Differentiate = SieveAttention.Reference.SparseSparse.Backward,
            Epilogue = SieveAttention.Reference.EpiloguePass.Forward,
            EpilogueBackward = SieveAttention.Reference.EpiloguePass.Backward,
        };

        internal static readonly Engine<float> Cpu = new()
        {
            Attend = SieveAttention.Cpu.SparseSparse.Forward,
            Differentiate = SieveAttention.Cpu.SparseSparse.Backward,
            Epilogue = SieveAttention.Cpu.EpiloguePass.Forward,
            EpilogueBackward = SieveAttention.Cpu.EpiloguePass.Backward,
        };

        internal delegate SparseSparseForward<T> AttendFunction(
            in AttentionProblem problem, SparseSparseParameters parameters, SparseSparseArrays<T> inputs, bool sparse, bool full);

        internal delegate RowGradients<T> DifferentiateFunction(
            in AttentionProblem problem,
            SparseSparseParameters parameters,
            SparseSparseArrays<T> inputs,
            SparseSparseForward<T> forward,
            HostArray<T>? dSparse,
            HostArray<T>? dFull);

        internal required AttendFunction Attend { get; init; }

        internal required DifferentiateFunction Differentiate { get; init; }

        internal required Func<EpilogueParameters, T[]?, HostArray<T>?, HostArray<T>, HostArray<T>> Epilogue { get; init; }

        internal required Func<EpilogueParameters, T[]?, HostArray<T>?, HostArray<T>, HostArray<T>, EpilogueGradients<T>> EpilogueBackward
        {
            get;
            init;
        }

        internal void Forward(in AttentionProblem problem, SparseSparseOptions options, SparseSparseInputs inputs, SparseSparseResult into)
        {
            SparseSparseParameters parameters = options.ToParameters(problem);
            SparseSparseArrays<T> arrays = Read(problem, options, inputs);
            SparseSparseForward<T> streams = Attend(problem, parameters, arrays, parameters.WantsSparse, parameters.WantsFull);
            HostArray<T>? sparse = Finish(parameters, arrays, streams.Sparse);
            HostArray<T>? full = Finish(parameters, arrays, streams.Full);
            sparse?.WriteTo(into.SparseOutput!);
            full?.WriteTo(into.FullOutput!);
            Write(problem, streams.Sparse?.LogSumExp, into.SparseLogSumExp);
            Write(problem, streams.Full?.LogSumExp, into.FullLogSumExp);
            if (into.BlockIndices is { } indices)
            {
                HostTensors.Write(streams.Blocks!.Indices, indices);
            }

            if (into.AlignmentLoss is { } loss)
            {
                bool gated = parameters.Alignment == AlignmentPlacement.Gated;
                HostArray<T> value = new(new TensorShape(1, 1, 1, 1));
                value.Data[0] = T.CreateTruncating(SparseSparseAlignment.Loss(
                    gated ? full! : streams.Full!.Output, gated ? sparse! : streams.Sparse!.Output));
                value.WriteTo(loss);
            }
        }

        internal SparseSparseGradients Backward(
            in AttentionProblem problem,
            SparseSparseOptions options,
            SparseSparseInputs inputs,
            AttentionTensor? sparseGradient,
            AttentionTensor? fullGradient)
        {
            SparseSparseParameters parameters = options.ToParameters(problem);
            SparseSparseArrays<T> arrays = Read(problem, options, inputs);
            bool aligned = parameters.AlignmentWeight != 0;
            bool gated = parameters.Alignment == AlignmentPlacement.Gated;
            HostArray<T>? dhs = HostTensors.ReadOptional<T>(sparseGradient);
            HostArray<T>? dhf = HostTensors.ReadOptional<T>(fullGradient);
            SparseSparseForward<T> streams = Attend(problem, parameters, arrays, aligned || dhs is not null, aligned || dhf is not null);
            if (aligned && gated)
            {
                (dhf, dhs) = SparseSparseAlignment.Add(
                    parameters.AlignmentWeight,
                    Finish(parameters, arrays, streams.Full)!,
                    Finish(parameters, arrays, streams.Sparse)!,
                    dhf,
                    dhs);
            }

            EpilogueGradients<T>? sparse = PassEpilogue(parameters, arrays, streams.Sparse, dhs);
            EpilogueGradients<T>? full = PassEpilogue(parameters, arrays, streams.Full, dhf);
            (HostArray<T>? dos, HostArray<T>? dof) = (sparse?.Output, full?.Output);
            if (aligned && !gated)
            {
                (dof, dos) = SparseSparseAlignment.Add(
                    parameters.AlignmentWeight, streams.Full!.Output, streams.Sparse!.Output, dof, dos);
            }

            RowGradients<T> gradients = Differentiate(problem, parameters, arrays, streams, dos, dof);
            T[]? gain = arrays.NormGain is null ? null : Sum(sparse?.NormGain, full?.NormGain, arrays.NormGain.Length);
            HostArray<T>? gate = null;
            if (arrays.Gate is not null)
            {
                gate = new HostArray<T>(problem.RowShape);
                Sum(sparse?.Gate?.Data, full?.Gate?.Data, gate.Data.Length).CopyTo(gate.Data, 0);
            }

            return new SparseSparseGradients
            {
                Query = HostTensors.Wrap(gradients.Query),
                Key = HostTensors.Wrap(gradients.Key),
                Value = HostTensors.Wrap(gradients.Value),
                NormGain = gain is null ? null : AttentionTensor.From<T>(gain, new TensorShape(1, 1, 1, gain.Length)),
                Gate = HostTensors.WrapOptional(gate),
            };
        }

        internal SparseSparseStatistics Statistics(in AttentionProblem problem, SparseSparseOptions options, SparseSparseInputs inputs)
        {
            SparseSparseArrays<T> arrays = Read(problem, options, inputs);
            return SparseSparseStatistics.Of(
                problem, Attend(problem, options.ToParameters(problem), arrays, sparse: true, full: true), arrays.Value);
        }

        private static SparseSparseArrays<T> Read(in AttentionProblem problem, SparseSparseOptions options, SparseSparseInputs inputs)
        {
            BlockLists? blocks = inputs.BlockIndices is { } indices
                ? BlockLists.Read(problem, options.BlockSize, indices, nameof(inputs.BlockIndices))
                : null;
            return new SparseSparseArrays<T>(
                HostArray<T>.Read(inputs.Query),
                HostArray<T>.Read(inputs.Key),
                HostArray<T>.Read(inputs.Value),
                HostTensors.ReadOptional<T>(inputs.NormGain)?.Data,
                HostTensors.ReadOptional<T>(inputs.Gate),
                blocks);
        }

        private HostArray<T>? Finish(SparseSparseParameters parameters, SparseSparseArrays<T> arrays, SparseSparseOutput<T>? stream) =>
            stream is null ? null : Epilogue(parameters.Epilogue, arrays.NormGain, arrays.Gate, stream.Output);

        private EpilogueGradients<T>? PassEpilogue(
            SparseSparseParameters parameters, SparseSparseArrays<T> arrays, SparseSparseOutput<T>? stream, HostArray<T>? dh)
        {
            return stream is null || dh is null
                ? null
                : EpilogueBackward(parameters.Epilogue, arrays.NormGain, arrays.Gate, stream.Output, dh);
        }

        private static T[] Sum(T[]? first, T[]? second, int length)
        {
            T[] sum = new T[length];
            for (int n = 0; n < length; n++)
            {
                sum[n] = (first?[n] ?? T.Zero) + (second?[n] ?? T.Zero);
            }

            return sum;
        }

        private static void Write(in AttentionProblem problem, T[]? rows, AttentionTensor? target)
        {
            if (rows is not null && target is not null)
            {
                HostArray<T> array = new(problem.RowShape);
                rows.CopyTo(array.Data, 0);
                array.WriteTo(target);
            }
        }
    }
}
