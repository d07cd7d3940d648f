"""Settings of other tools and former names of ptblm, each with the key that replaces it.

The names come from the TensorFlow tutorial, the word language model of pytorch/examples, AWD-LSTM,
char-rnn, torch-rnn, fairseq, Keras and Transformers. They are written in lowercase with
underscores.
"""

# Key of ptblm: names whose value belongs there, some of them after a conversion.
RENAMED = {
    "data.path": "data data_dir data_path dataset dataset_path corpus corpus_path text_file "
    "input_file input_dir train_data train_file",
    "data.tokenizer": "level unit granularity tokenization token_type char_level",
    "data.vocabulary.min_count": "min_freq min_frequency min_word_count min_word_freq "
    "word_min_count unk_threshold threshold cutoff",
    "data.vocabulary.size": "max_vocab max_vocab_size vocabulary_size n_vocab nb_words num_words "
    "max_words max_features vocab_limit vocab_size",
    "data.vocabulary.file": "vocab vocab_file vocab_path vocabulary_file dict dict_path",
    "data.vocabulary.unk": "unk_token oov_token unk_symbol unknown_token",
    "data.encoding": "charset text_encoding file_encoding",
    "model.cell": "model rnn_type cell_type model_type rnn_cell rnn_cell_type cell_name unit_type "
    "arch architecture recurrent_cell rnn_model network",
    "model.hidden_size": "nhid n_hid n_hidden num_hidden hidden hidden_dim hidden_units units "
    "num_units n_units rnn_size rnn_units rnn_hidden_size lstm_size lstm_units state_size "
    "cell_size d_hidden hid_dim hidden_layer_size decoder_hidden_size",
    "model.embedding_size": "emsize embed_dim embed_size embedding_dim embedding_units emb_dim "
    "emb_size wordvec_size word_vec_size word_dim n_embd input_size decoder_embed_dim",
    "model.num_layers": "nlayers n_layers n_layer layers nb_layers num_hidden_layers rnn_layers "
    "num_rnn_layers decoder_layers depth",
    "model.tie_embeddings": "tied tie tie_weights tied_weights weight_tying tie_word_embeddings "
    "share_embeddings share_decoder_input_output_embed tied_embeddings",
    "model.head.components": "n_experts num_experts",
    "model.head.dropout": "dropoutl",
    "model.head.cutoffs": "adaptive_softmax_cutoff adaptive_cutoff",
    "model.head.div_value": "div_val adaptive_softmax_factor",
    "model.dropout": "drop drop_rate dropout_rate dropout_prob dropout_p keep_prob "
    "keep_probability",
    "model.dropout.input": "dropouti dropout_in dropout_i input_dropout input_p spatial_dropout "
    "decoder_dropout_in",
    "model.dropout.between": "dropouth dropout_h hidden_dropout hidden_p inter_layer_dropout",
    "model.dropout.output": "dropouto dropout_out dropout_o output_dropout output_p "
    "decoder_dropout_out",
    "model.dropout.locked": "variational locked_dropout lock_drop variational_dropout",
    "model.dropout.embedding": "dropoute dropout_embed dropout_emb embed_dropout embed_p "
    "embedding_dropout word_dropout",
    "model.dropout.recurrent_weights": "wdrop weight_drop weight_dropout weight_p dropconnect",
    "model.dropout.recurrent_state": "recurrent_dropout recurrent_dropout_rate state_dropout",
    "model.initializer": "kernel_initializer weight_init init_method initialization",
    "model.init_scale": "initrange init_range init_weight param_init uniform_scale",
    "model.initial_state": "init_state initial_hidden init_hidden",
    "model.cell.forget_bias": "forget_gate_bias lstm_forget_bias unit_forget_bias",
    "model.cell.gate_activation": "recurrent_activation",
    "model.cell.projection_size": "proj_size num_proj projection_dim proj_dim",
    "model.cell.peepholes": "use_peepholes peephole",
    "model.cell.beta": "janet_beta",
    "model.cell.rounds": "mogrifier_rounds feature_mask_rounds",
    "model.cell.rank": "mogrifier_rank feature_mask_rank",
    "training.batch_size": "batchsize batch bs bsz bsize minibatch_size mini_batch_size "
    "train_batch_size per_device_train_batch_size max_sentences nbatch num_streams",
    "training.num_steps": "bptt bptt_len bptt_steps seq_len seq_length seq_size seqlen "
    "sequence_length tokens_per_sample block_size context_length context_size unroll "
    "unroll_length unroll_steps num_unroll_steps timesteps time_steps num_timesteps input_length "
    "max_len maxlen max_seq_len max_seq_length chunk_len window_size",
    "training.random_num_steps": "random_bptt random_seq_len",
    "training.streams": "partial_shuffle",
    "training.drop_state": "drop_state_prob drop_state_probability state_drop_probability "
    "reset_hidden_prob",
    "training.epochs": "max_max_epoch max_epoch max_epochs num_epochs n_epochs nb_epoch nb_epochs "
    "nepochs num_train_epochs total_epochs",
    "training.learning_rate": "lr init_lr lr_init initial_lr initial_learning_rate base_lr "
    "start_lr step_size eta",
    "training.max_grad_norm": "clip clip_norm clipnorm global_clipnorm clip_grad clip_grad_norm "
    "clip_gradients grad_clip grad_clip_norm grad_norm gradient_clip gradient_clipping "
    "gradient_clip_val max_gradient_norm max_norm",
    "training.activation_regularization": "alpha ar activity_regularizer",
    "training.temporal_activation_regularization": "tar",
    "training.optimizer": "optim optimiser opt optim_method use_optimizer trainer",
    "training.optimizer.decay": "decay_rate rmsprop_decay rho",
    "training.optimizer.beta1": "adam_beta1 beta_1 b1",
    "training.optimizer.beta2": "adam_beta2 beta_2 b2",
    "training.optimizer.epsilon": "eps adam_eps adam_epsilon optimizer_epsilon",
    "training.weight_decay": "wdecay wd l2 l2_reg l2_penalty l2_regularization weight_decay_rate "
    "kernel_regularizer",
    "training.average": "averaging asgd asgd_start swa use_swa ema use_ema polyak polyak_averaging",
    "training.average.decay": "ema_decay ema_rate",
    "training.average.start": "swa_start swa_start_epoch",
    "training.average.patience": "nonmono non_mono nonmonotonic",
    "training.optimizer.momentum_decay": "nadam_momentum_decay schedule_decay",
    "training.schedule": "scheduler lr_scheduler lr_schedule lr_scheduler_type lr_policy "
    "learning_rate_schedule",
    "training.schedule.decay": "lr_decay lr_decay_rate lr_decay_factor lr_shrink lr_factor "
    "learning_rate_decay learning_rate_decay_rate anneal anneal_factor decay_factor gamma",
    "training.schedule.full_rate_epochs": "learning_rate_decay_after lr_decay_after decay_after "
    "start_decay_at decay_start lr_decay_start",
    "training.schedule.warmup_share": "pct_start",
    "training.schedule.low_momentum": "base_momentum min_momentum",
    "training.schedule.final_learning_rate": "min_lr lr_min final_lr end_lr eta_min",
    "training.early_stopping.patience": "early_stopping early_stop early_stopping_patience "
    "early_stopping_rounds es_patience stop_patience patience",
    "training.warmup_steps": "warmup warmup_updates warmup_iters num_warmup_steps lr_warmup_steps",
    "training.seed": "random_seed manual_seed rng_seed",
    "run.device": "cuda use_cuda no_cuda gpu use_gpu no_gpu gpuid gpu_id cpu mps accel accelerator",
    "run.precision": "fp16 bf16 use_fp16 half float16 bfloat16 amp mixed_precision dtype",
    "run.fused": "plain",
    "run.log_every": "log_interval log_freq log_frequency log_steps logging_steps print_every "
    "print_freq print_interval report_interval report_every display_every disp_freq",
    "run.checkpoint_every": "save_every save_freq save_interval save_interval_updates save_steps "
    "checkpoint_freq checkpoint_interval checkpoint_steps",
    "run.keep_checkpoints": "save_total_limit keep_last_epochs keep_interval_updates max_to_keep",
    "run.tensorboard": "tensorboard_logdir tensorboard_dir use_tensorboard tb",
}

# Notes on keys whose value may have to be converted.
NOTES = {
    "data.vocabulary.unk": "the unknown word as the text spells it",
    "model.dropout": "the probability to drop, not to keep",
    "model.dropout.input": "with 'locked: true' for the masks of AWD-LSTM",
    "model.dropout.between": "with 'locked: true' for the masks of AWD-LSTM",
    "model.dropout.output": "with 'locked: true' for the masks of AWD-LSTM",
    "training.activation_regularization": "with the value for a mean loss",
    "training.temporal_activation_regularization": "with the value for a mean loss",
    "training.learning_rate": "the loss is summed over num_steps, so divide the SGD rate of a mean "
    "loss by num_steps",
    "training.max_grad_norm": "the gradient is that of the loss summed over num_steps, so multiply "
    "the limit for a mean loss by num_steps",
    "training.optimizer.decay": "optimizer rmsprop",
    "training.optimizer.beta1": "optimizers adam, adamw, nadam and muon",
    "training.optimizer.beta2": "optimizers adam, adamw, nadam and muon",
    "training.optimizer.epsilon": "optimizers adam, adamw, nadam, muon and rmsprop",
    "training.optimizer.momentum_decay": "optimizer nadam",
    "training.weight_decay": "it applies to the loss summed over num_steps, so multiply the decay "
    "of a mean loss by num_steps; that of adamw and muon stays the same",
    "training.average": "ema, or for averaged SGD tail or nt with the optimizer sgd",
    "training.average.decay": "average ema",
    "training.average.start": "average tail, in epochs",
    "training.average.patience": "average nt",
    "training.streams": "rotated",
    "training.schedule.decay": "schedules tutorial and plateau",
    "training.schedule.full_rate_epochs": "schedule tutorial",
    "training.schedule.warmup_share": "schedule one_cycle",
    "training.schedule.low_momentum": "schedule one_cycle",
    "training.schedule.final_learning_rate": "schedules cosine and linear",
    "model.head.components": "head mixture",
    "model.head.dropout": "head mixture",
    "model.head.cutoffs": "head adaptive",
    "model.head.div_value": "head adaptive",
    "model.cell.beta": "cell janet",
    "model.cell.rounds": "cells mogrifier and rlstm",
    "model.cell.rank": "cells mogrifier and rlstm",
    "run.checkpoint_every": "such as '200 steps' or '5 minutes'",
}

# Option of the command line: names that mean the same.
OPTIONS = {
    "--run-dir DIR": "save save_dir save_path savefile save_to checkpoint_dir checkpoint_path "
    "checkpoint_name output output_dir out_dir outdir log_dir logdir train_dir model_dir work_dir "
    "exp_dir rundir run_name",
    "--resume RUN_DIR": "resume restore restore_file restore_from resume_from "
    "resume_from_checkpoint continue_from load load_checkpoint load_model",
    "--init CHECKPOINT": "init_from init_checkpoint finetune finetune_from finetune_from_model "
    "pretrained warm_start initial_weights",
    "--overwrite": "overwrite_output_dir force clobber",
    "--processes N": "ngpu ngpus num_gpus gpus n_gpu distributed_world_size world_size nproc "
    "nproc_per_node",
    "--top K": "guess guessn guesssurps guessprobs",
    "--format words": "words",
    "--mode stream": "multisentence_test",
    "--base 2": "base_two",
    "--states FILE": "view_hidden view_layer",
}

# Sentence: names that it explains. Most of them have no counterpart in ptblm.
EXPLAINED = {
    "use 'training.epochs', or 'training.schedule.full_rate_epochs' for max_epoch of the "
    "TensorFlow tutorial": "max_epoch",
    "use 'model.dropout', which is 1 - keep_prob": "keep_prob keep_probability input_keep_prob "
    "output_keep_prob",
    "the vocabulary is taken from the training text; use 'data.vocabulary.size' to limit "
    "it": "vocab_size",
    "use 'run.precision: fp16' or another value": "use_fp16 fp16 half float16 amp mixed_precision",
    "use 'run.precision: bf16'": "bf16 bfloat16",
    "use 'run.fused: false'": "plain",
    "use 'model.head: adaptive'": "adaptive adaptive_softmax",
    "use 'data.tokenizer: char' or another value": "char_level",
    "use 'data.path' with a directory of train.txt, valid.txt and test.txt": "train_path "
    "valid_path val_path test_path valid_file val_file test_file valid_data val_data test_data",
    "use 'training.temporal_activation_regularization' with the value for a mean loss, or "
    "'model.cell.beta' (cell janet)": "beta",
    "use 'training.optimizer.beta1' and 'training.optimizer.beta2' (optimizers adam, "
    "adamw, nadam and muon)": "betas adam_betas",
    "use 'model.cell.forget_bias: 1.0'": "unit_forget_bias",
    "use 'training.early_stopping.patience' to end training, 'training.schedule.patience' "
    "(schedule plateau) to decay the learning rate, or 'training.average.patience' (averages tail "
    "and nt) to start averaging": "patience lr_patience",
    "the fastest exact implementation is chosen automatically": "rnn_mode cudnn compile jit "
    "torch_compile",
    "a file is split 90% train, 5% valid, 5% test, and other shares are not available in ptblm; "
    "use a directory with train.txt, valid.txt and test.txt": "train_frac val_frac test_frac "
    "train_split val_split valid_split validation_split test_size split_fractions",
    "validation at another interval than an epoch is not available in ptblm": "eval_val_every "
    "eval_every eval_interval eval_steps valid_every val_every val_interval validate_every "
    "validate_interval valid_freq validation_freq evaluation_strategy eval_freq",
    "another batch size for evaluation is not available in ptblm": "eval_batch_size "
    "valid_batch_size val_batch_size test_batch_size per_device_eval_batch_size",
    "training for a number of steps is not available in ptblm; use 'training.epochs'": "steps "
    "max_steps train_steps num_train_steps total_steps max_iters iters iterations num_iterations "
    "n_iters niter max_update max_updates total_num_update",
    "the number of steps in an epoch follows from the text, 'training.batch_size' and "
    "'training.num_steps'": "steps_per_epoch epoch_size batches_per_epoch",
    "shuffling is not available in ptblm; batches follow the order of the text, and with "
    "'training.streams: rotated' each stream begins at a random token": "shuffle shuffle_data "
    "shuffle_buffer buffer_size no_shuffle",
    "L1 regularization is not available in ptblm; 'training.weight_decay' is that of L2": "l1 "
    "l1_reg",
    "bidirectional models are not available in ptblm": "bidirectional bidir num_directions "
    "go_backwards",
    "lowercasing is not available in ptblm; convert the text first": "lowercase lower lower_case "
    "do_lower_case uncased to_lower",
    "text cleaning is not available in ptblm; convert the text first": "filters remove_punct "
    "strip_punctuation normalize replace_numbers stopwords",
    "clipping of single gradient values is not available in ptblm; 'training.max_grad_norm' "
    "limits the norm of all gradients": "clipvalue clip_value grad_clip_value",
    "Nesterov momentum of SGD is not available in ptblm; the optimizers nadam and muon have "
    "it": "nesterov",
    "AMSGrad is not available in ptblm": "amsgrad",
    "label smoothing is not available in ptblm": "label_smoothing",
    "a trained model is evaluated with a neural cache by `ptblm eval --cache`": "theta lambdasm "
    "pointer",
    "a trained model is evaluated dynamically by `ptblm eval --dynamic`": "lamb oldhyper "
    "dynamic_eval dynamic_evaluation",
    "normalization layers are not available in ptblm": "batchnorm batch_norm layernorm layer_norm "
    "use_layer_norm",
    "Transformers are not available in ptblm": "nhead n_head num_heads num_attention_heads d_model "
    "attention",
    "gradient accumulation is not available in ptblm": "update_freq accumulate_grad_batches "
    "gradient_accumulation_steps grad_accum",
    "torchrun and srun set the rank of a process in its environment": "local_rank",
    "the text is read without worker processes": "num_workers workers nworkers prefetch",
    "a trained model generates text with `ptblm generate`": "temperature top_k top_p prime "
    "primetext num_samples outf sample_every",
    "use 'run.tensorboard' or read metrics.jsonl of the run": "wandb wandb_project use_wandb "
    "wandb_log mlflow log_format",
    "the hidden state is carried from batch to batch, except for the random resets of "
    "'training.drop_state'": "stateful return_sequences return_state carry_hidden",
}


def answer(name: str) -> str | None:
    """Returns what to use in a config instead of a setting of another tool; None if unknown."""
    name = normalize(name)
    if name in _EXPLAINED:
        return _EXPLAINED[name]
    if name in _RENAMED:
        key = _RENAMED[name]
        note = f" ({NOTES[key]})" if key in NOTES else ""
        return f"use '{key}'{note}"
    return f"use the option {_OPTIONS[name]}" if name in _OPTIONS else None


def replacement(name: str) -> str | None:
    """Returns the key or option that replaces `name`: "model.hidden_size", "--run-dir DIR"."""
    return _RENAMED.get(normalize(name)) or _OPTIONS.get(normalize(name))


def normalize(name: str) -> str:
    """Returns a name in lowercase with underscores, as in the tables."""
    return name.lower().replace("-", "_")


def _by_name(table: dict[str, str]) -> dict[str, str]:
    return {name: target for target, names in table.items() for name in names.split()}


_RENAMED = _by_name(RENAMED)
_OPTIONS = _by_name(OPTIONS)
_EXPLAINED = _by_name(EXPLAINED)
